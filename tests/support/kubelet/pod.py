"""One pod: prepared, run, told about, ended, and deleted when the API server asks for it."""

import asyncio
import logging
import shutil
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from splitwise_cli.runner.container import Container
from splitwise_cli.runner.pod import Pod
from splitwise_cli.runner.process import signal_all
from tests.support.kubelet.api import Object, Refused, insist
from tests.support.kubelet.containers import Maker, variables
from tests.support.kubelet.house import House
from tests.support.kubelet.images import Waiting
from tests.support.kubelet.node import stamp
from tests.support.kubelet.status import Seen, pod_status
from tests.support.kubelet.volumes import NotYet, make_volumes, refresh_volumes

log = logging.getLogger("kubelet.pod")

RETRY_S: Final = 0.5
REFRESH_S: Final = 5.0
"""How soon a change of a ConfigMap is seen in a volume; a real kubelet takes up to a minute."""
GATHER_S: Final = 0.02
"""Changes that come together are told together."""


class PodRun:
    """A pod that is bound to this node. `live` takes it from its start to its end."""

    def __init__(self, house: House, pod: Object, address: str) -> None:
        self._house = house
        self._pod = pod
        self.address = address
        self._running: Pod | None = None
        self._waiting: dict[str, Waiting] = {}
        self._began = pod["status"].get("startTime") or stamp(datetime.now(UTC))
        self._conditions: list[Object] = pod["status"].get("conditions", [])
        self._told: Object | None = None
        self._dirty = asyncio.Event()
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def path(self) -> str:
        """The pod's, in the API."""
        meta = self._pod["metadata"]
        return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    def see(self, pod: Object) -> None:
        """Takes in what the API server has to say of the pod."""
        self._pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._ending.set()
        self._dirty.set()

    def lose(self) -> None:
        """The pod is no longer in the API: its processes have no reason to run."""
        self._gone.set()
        self._ending.set()

    async def live(self) -> None:
        """Returns when nothing of the pod runs, and its object is deleted or not to be."""
        if self._pod["status"].get("phase") not in ("Succeeded", "Failed"):
            await self._run_until_ending()
        else:
            await self._ending.wait()
        if not self._gone.is_set():
            await self._delete()
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL to all that runs, without a word to the API server."""
        for container in self._running.containers() if self._running else ():
            if container.pid is not None:
                signal_all(container.pid, signal.SIGKILL)

    async def _run_until_ending(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(self._report())
            running = tasks.create_task(self._run())
            await self._ending.wait()
            running.cancel()
            await self._stop()
            reporting.cancel()

    @property
    def _directory(self) -> Path:
        return self._house.directory / "pods" / str(self._pod["metadata"]["uid"])

    async def _run(self) -> None:
        """Returns when no main container will run again, as that of a job; sidecars end then."""
        maker = await self._prepare()
        self._running = maker.make(self._dirty.set, self._gate)
        self._running.start()
        refreshing = asyncio.create_task(self._refresh(maker))
        try:
            for container in self._running.main:
                await container.finished.wait()
            await self._running.stop()
        finally:
            refreshing.cancel()

    async def _refresh(self, maker: Maker) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            with suppress(httpx.TransportError, Refused, NotYet):
                await refresh_volumes(self._house.api, self._pod, maker.volumes)

    async def _prepare(self) -> Maker:
        """Waits for all that the containers need before the first of them can start."""
        api, pod = self._house.api, self._pod
        while True:
            try:
                volumes = await make_volumes(api, pod, self._directory / "volumes")
                data = await variables(api, pod)
            except NotYet as missing:
                self._wait_all(Waiting(missing.reason, str(missing)))
            except (Refused, httpx.TransportError) as error:
                self._wait_all(Waiting("ContainerCreating", str(error)))
            else:
                self._waiting.clear()
                return Maker(self._house, pod, self.address, self._directory, volumes, data)
            await asyncio.sleep(RETRY_S)

    def _wait_all(self, waiting: Waiting) -> None:
        spec = self._pod["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            self._waits(container["name"], waiting)

    def _waits(self, name: str, waiting: Waiting | None) -> None:
        if waiting is None:
            self._waiting.pop(name, None)
        else:
            self._waiting[name] = waiting
        self._dirty.set()

    async def _gate(self, name: str) -> None:
        """Passes when the container's image is there."""

        def image() -> str:
            spec = self._pod["spec"]
            every = [*spec.get("initContainers", []), *spec["containers"]]
            return next(str(own["image"]) for own in every if own["name"] == name)

        await self._house.images.pull(image, lambda waiting: self._waits(name, waiting))
        self._waits(name, None)

    def _status(self) -> Object:
        containers: dict[str, Container] = {}
        if self._running is not None:
            containers = {container.name: container for container in self._running.containers()}
        seen = Seen(
            pod=self._pod,
            address=self.address,
            host_address=self._house.node.address,
            began=self._began,
            containers=containers,
            waiting=self._waiting,
            is_ending=self._ending.is_set(),
        )
        return pod_status(seen, self._conditions, stamp(datetime.now(UTC)))

    async def _report(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(GATHER_S)
            self._dirty.clear()
            await self._tell()

    async def _tell(self) -> None:
        """Writes the status, if it is not as it was written last."""

        async def write() -> None:
            status = self._status()
            if status != self._told:
                uid = self._pod["metadata"]["uid"]  # another pod of this name is not ours
                body = {"metadata": {"uid": uid}, "status": status}
                await self._house.api.merge(f"{self.path}/status", body)
                self._told, self._conditions = status, status["conditions"]

        try:
            await insist(write)
        except Refused as refused:  # it is gone, or another pod has its name
            log.info("status of %s: %s", self.path, refused)

    async def _stop(self) -> None:
        """Ends the containers within the grace that the deletion gives."""
        if self._running is None:
            return
        grace_s = self._pod["metadata"].get("deletionGracePeriodSeconds")
        stopping = asyncio.create_task(self._running.stop(0 if self._gone.is_set() else grace_s))
        forced = asyncio.create_task(self._gone.wait())
        await asyncio.wait([stopping, forced], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            self.kill()
        await stopping
        forced.cancel()

    async def _delete(self) -> None:
        await self._tell()
        now = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._pod["metadata"]["uid"]}}
        try:
            await insist(lambda: self._house.api.delete(self.path, now))
        except Refused as refused:
            log.info("%s: %s", self.path, refused)
