"""`splitwise-operator`: reads the command line once, waits to lead, reconciles until SIGTERM."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from itertools import product
from typing import Final

import kopf
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from splitwise_core.arguments import address
from splitwise_core.errors import UserError
from splitwise_core.logs import configure, count_drops
from splitwise_core.metric import Component
from splitwise_core.metrics.operator import LEADERS
from splitwise_core.metrics.process import LOG_DROPS
from splitwise_core.status_server import StatusServer
from splitwise_core.telemetry import Telemetry
from splitwise_operator import handlers
from splitwise_operator.advice_reader import AdviceReader
from splitwise_operator.autoscaler import Autoscaler
from splitwise_operator.cluster_metrics import show_clusters
from splitwise_operator.images import Images
from splitwise_operator.kinds import CLUSTER, POOL, WATCHED
from splitwise_operator.kube import ApiError, Kube
from splitwise_operator.leader import Leadership
from splitwise_operator.link_reader import LinkReader
from splitwise_operator.looks import Looks
from splitwise_operator.reconcile import Reconciler
from splitwise_operator.store import Store
from splitwise_operator.watch import follow
from splitwise_operator.worklist import Worklist

DEFINITIONS_POLL_S: Final = 2.0
CONNECTIONS: Final = 64
STOP_S: Final = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an operator; 0 after SIGTERM, 1 without leadership, 2 for what a reader can fix."""
    asked = _parser().parse_args(arguments)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        return asyncio.run(_serve(asked, configure("operator", os.environ)))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201 (for people, several lines)
        return 2


async def _serve(asked: argparse.Namespace, log: logging.Logger) -> int:
    """Until SIGTERM (0), or until leadership is lost (1)."""
    configuration = await _configuration()
    telemetry = Telemetry(Component.OPERATOR)
    count_drops(telemetry.counter(LOG_DROPS).inc)
    host, _, port = asked.listen.rpartition(":")
    looks = Looks()
    page = StatusServer(telemetry.registry, lambda: None, {"/scaling": looks.page})
    page.start(host, int(port))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    try:
        async with ApiClient(configuration) as api:
            working = asyncio.create_task(_work(Kube(api), asked, looks, telemetry, log))
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return 0 if working.result() else 1
            working.cancel()
            await asyncio.wait({working}, timeout=STOP_S)
            return 0
    finally:
        stopping.cancel()
        page.stop()


async def _work(
    kube: Kube,
    asked: argparse.Namespace,
    looks: Looks,
    telemetry: Telemetry,
    log: logging.Logger,
) -> bool:
    """Waits to lead, then reconciles; False when leadership was lost."""
    await _definitions_are_served(kube, log)
    namespace, _, name = asked.lease.partition("/")
    leadership = Leadership(kube, namespace, name, asked.identity, log)
    return await leadership.lead(lambda: _reconcile(kube, asked, looks, telemetry, log))


async def _definitions_are_served(kube: Kube, log: logging.Logger) -> None:
    """Returns once the API server knows our kinds: the chart may install both at once."""
    told = False
    while True:
        try:
            if all([await kube.serves(kind) for kind in (CLUSTER, POOL)]):
                return
            why = f"{CLUSTER.api_version} is not served: apply crds/"
        except ApiError as error:
            why = error.message
        if not told:
            log.warning("waiting for the definitions", extra={"fields": {"why": why}})
        told = True
        await asyncio.sleep(DEFINITIONS_POLL_S)


async def _reconcile(
    kube: Kube,
    asked: argparse.Namespace,
    looks: Looks,
    telemetry: Telemetry,
    log: logging.Logger,
) -> None:
    """Runs until cancelled, or until SIGTERM, which kopf listens to as soon as it runs."""
    store = Store()
    images = Images(asked.worker_image, asked.sidecar_image, asked.router_image)
    worklist = Worklist(Reconciler(kube, store, images, telemetry, log).look)
    namespaces: list[str | None] = list(asked.namespace) or [None]
    log.info("reconciling", extra={"fields": {"namespaces": asked.namespace or "all"}})
    try:
        async with asyncio.TaskGroup() as tasks:
            listed, watches = [], []
            for kind, namespace in product(WATCHED, namespaces):
                listed.append(asyncio.Event())
                watch = follow(kube, kind, namespace, store, worklist, listed[-1], telemetry, log)
                watches.append(tasks.create_task(watch))
            links = LinkReader(store, worklist, telemetry, log)
            advisor = AdviceReader(store, worklist, telemetry)
            watches += [tasks.create_task(reader.run()) for reader in (links, advisor)]
            autoscaler = Autoscaler(kube, store, worklist, looks, telemetry, log)
            for event in listed:  # what there is must be known before anything is decided
                await event.wait()
            watches.append(tasks.create_task(autoscaler.run()))
            telemetry.gauge(LEADERS).set(1)
            show_clusters(telemetry, store, looks)
            registry = kopf.OperatorRegistry()
            handlers.register(registry, store, worklist)
            await kopf.operator(
                registry=registry,
                settings=handlers.settings(),
                clusterwide=not asked.namespace,
                namespaces=asked.namespace,
                standalone=True,
            )
            for watching in watches:
                watching.cancel()
    finally:
        await worklist.close()


async def _configuration() -> Configuration:
    """Of the pod's account, else of the kubeconfig. Raises UserError when there is neither."""
    made = Configuration()
    made.connection_pool_maxsize = CONNECTIONS
    try:
        config.load_incluster_config(made)
    except ConfigException:
        try:
            await config.load_kube_config(client_configuration=made)
        except (ConfigException, OSError) as error:
            raise UserError(
                "environment",
                where="KUBECONFIG",
                wrong=f"there is no way to an API server: {error}",
                fix="run in a pod with a service account, or set KUBECONFIG",
            ) from error
    return made


def _lease(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not namespace or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not namespace/name")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="splitwise-operator", description="Makes SplitwiseClusters what their specs say."
    )
    local = Images()
    add = parser.add_argument
    add("--listen", type=address, default="0.0.0.0:8080", metavar="HOST:PORT", help="status page")
    add("--namespace", action="append", default=[], help="watch it; all without (may be repeated)")
    add("--lease", type=_lease, default="default/splitwise-operator", metavar="NAMESPACE/NAME")
    add("--identity", default=socket.gethostname(), help="name under which the lease is held")
    add("--worker-image", default=local.worker, metavar="IMAGE")
    add("--sidecar-image", default=local.sidecar, metavar="IMAGE")
    add("--router-image", default=local.router, metavar="IMAGE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
