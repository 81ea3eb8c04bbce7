"""A cluster of processes on this machine, and what goes wrong in one without Kubernetes."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psutil

from splitwise_core.kv import KvGeometry
from splitwise_operator.certificates import CERTIFICATE_LIFE
from tests.soak.alerts.cause import Cause
from tests.support.asking import asked
from tests.support.background import running as background
from tests.support.certificates import NAME, bundle, put
from tests.support.cluster import Cluster, eventually, running, write_cluster
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port
from tests.support.sidecar_process import SidecarProcess
from tests.support.watched import Watch, watching, write_targets

LABELS: Final = {"namespace": "default", "cluster": "test"}
OBJECTIVES: Final = {"ttftSeconds": 5, "tbtSeconds": 2, "percentile": 90}
REQUEST_S: Final = 30
"""No request lives longer; a lease that is a minute older leaks."""
ROUTER: Final = {
    "maxQueueSeconds": 8,
    "maxQueuedRequests": 5000,
    "requestTimeoutSeconds": REQUEST_S,
}
MANY: Final = 600
LONG: Final = 900
DAYS_LEFT: Final = 6
READY_S: Final = 90.0


class Local:
    """The cluster and the Prometheus that watches it. Fresh sidecars have their files here."""

    name = "a cluster of processes"

    def __init__(
        self, cluster: Cluster, watch: Watch, directory: Path, until_over: ExitStack
    ) -> None:
        self.watch = watch
        self._cluster = cluster
        self._directory = directory
        self._until_over = until_over

    def load(self) -> AbstractContextManager[Counter[str]]:
        """Requests that are answered at once; it counts their statuses."""
        return asked(self._cluster.url)

    def causes(self) -> list[Cause]:
        """In the order in which they can follow one another."""
        return [
            Cause(
                "more prompts come than are computed",
                (
                    *("SplitwiseQueueGrows", "SplitwiseRequestsTurnedAway"),
                    *("SplitwiseSloBurnsFast", "SplitwiseSloBurnsSlowly"),
                ),
                lambda: asked(self._cluster.url, MANY, LONG, output_tokens=1, different=10**6),
                within_s=180,
            ),
            Cause(
                "token workers are given another cluster's keys",
                ("SplitwiseTransfersFail",),
                self._foreign_keys,
            ),
            Cause(
                "shared memory is taken away: its sockets are removed",
                ("SplitwiseTransfersFellBack",),
                self._without_shared_memory,
            ),
            Cause(
                f"a certificate of which {DAYS_LEFT} days are left",
                ("SplitwiseCertificateExpires",),
                self._old_certificate,
            ),
            Cause(
                "a worker (a stand-in) opens a lease and forgets it",
                ("SplitwiseLeaseLeaks",),
                self._forgotten_lease,
                within_s=150,
            ),
        ]

    @contextmanager
    def _foreign_keys(self) -> Iterator[None]:
        files = [self._file(pod, "capability-key") for pod in self._cluster.pods("token")]
        own = [file.readlink() for file in files]
        foreign = self._directory / "foreign.key"
        foreign.write_text(secrets.token_hex(32))
        for file in files:
            _point(file, foreign)
        yield
        for file, before in zip(files, own):
            _point(file, before)

    @contextmanager
    def _without_shared_memory(self) -> Iterator[None]:
        for pod in self._cluster.pods("token"):
            for file in self._file(pod, "socket").parent.iterdir():
                if file.is_socket() and file.name != "kv.sock":
                    file.unlink()
        self._cluster.kill(self._cluster.pods("prompt")[0]["name"], "kv")  # it dials anew
        yield
        for pod in self._cluster.pods("token"):  # they listen anew
            self._cluster.kill(pod["name"], "kv")
        self._wait_until_ready()

    def _file(self, pod: dict[str, Any], flag: str) -> Path:
        """What a pod's sidecar was given as a flag."""
        (pid,) = (one["pid"] for one in pod["containers"] if one["name"] == "kv")
        words = psutil.Process(pid).cmdline()
        (path,) = (word.partition("=")[2] for word in words if word.startswith(f"--{flag}="))
        return Path(path)

    def _wait_until_ready(self) -> None:
        eventually(
            lambda: all(pod["ready"] for pod in self._cluster.pods()), READY_S, self._cluster.logs
        )

    @contextmanager
    def _old_certificate(self) -> Iterator[None]:
        age = CERTIFICATE_LIFE - timedelta(days=DAYS_LEFT)
        files = put(self._directory / "tls", bundle(age=age))
        self._fresh_sidecar("old", f"--tls-dir={files}", f"--tls-name={NAME}")
        yield
        put(self._directory / "tls", bundle())

    @contextmanager
    def _forgotten_lease(self) -> Iterator[None]:
        worker = KvWorker(KvGeometry("m", "float32", 2, 2, 8, 16), num_blocks=4)
        self._until_over.callback(worker.close)
        asyncio.run(self._fresh_sidecar("leaks").attach(worker))
        worker.open_lease("forgotten", [0], 4, lease_ms=3_600_000)
        yield
        worker.close_lease("forgotten")

    def _fresh_sidecar(self, name: str, *flags: str) -> SidecarProcess:
        """One beside the cluster's, watched with them until all is over."""
        sidecar = SidecarProcess(self._directory, name, ["grpc"])
        sidecar.program.command = [*sidecar.program.command, *flags]
        self._until_over.enter_context(background(sidecar.program))
        write_targets(self.watch.targets, [sidecar.metrics_url], **LABELS)
        return sidecar


def _point(link: Path, target: Path) -> None:
    """As the kubelet does: the new file takes the old one's name."""
    fresh = link.with_suffix(".new")
    fresh.symlink_to(target)
    fresh.replace(link)


@contextmanager
def local(model: Path, directory: Path, factor: int) -> Iterator[Local]:
    """One prompt worker and two token workers; its rules are hastened by `factor`."""
    file = write_cluster(
        directory, model, router=ROUTER, transfer={"probeSeconds": 5}, slo=OBJECTIVES
    )
    with ExitStack() as stack:
        port = ("--port", str(free_port()))
        cluster = stack.enter_context(running(file, directory / "state", *port))
        urls = [url for pod in cluster.pods() for url in pod["metrics"]]
        listen = f"127.0.0.1:{free_port()}"
        watch = stack.enter_context(watching(directory, listen, urls, factor, **LABELS))
        eventually(lambda: watch.all_up(len(urls)), 30, cluster.logs)
        yield Local(cluster, watch, directory, stack)
