"""`splitwise-sidecar`: keeps a worker's KV pool, and moves KV to and from other workers'."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from splitwise_core.errors import UserError
from splitwise_core.logs import configure, count_drops
from splitwise_core.metric import Component
from splitwise_core.metrics.process import LOG_DROPS
from splitwise_core.status_server import StatusServer
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import open_tracing
from splitwise_sidecar.allocator import keep_freed_memory
from splitwise_sidecar.config import ENCRYPTED, SidecarConfig, parse
from splitwise_sidecar.process import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 after a clean drain, 2 for what the reader can fix, 1 for a bug."""
    config = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        configure("sidecar", os.environ)
        _run(config)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Exception:
        logging.getLogger("splitwise.sidecar").exception("a bug ended the sidecar")
        return 1
    return 0


def _run(config: SidecarConfig) -> None:
    if not config.transports:
        raise UserError(
            "environment",
            where="spec.transfer.requireRdma",
            wrong="this container has no RDMA device (/dev/infiniband), or is not to use it",
            fix="see that spec.transfer.rdma names what the node's device plugin offers, "
            "or leave out requireRdma to allow other transports",
        )
    if config.tls_dir is not None and not set(config.transports) & set(ENCRYPTED):
        raise UserError(
            "environment",
            where="spec.transfer.transport",
            wrong=f"KV would be encrypted, which {', '.join(config.transports)} cannot do",
            fix="use Auto, TCP or GRPC, or ask for plaintext: spec.transfer.tls.mode: Plaintext",
        )
    keep_freed_memory()
    telemetry = Telemetry(Component.SIDECAR, role=config.role, pool=config.pool)
    count_drops(telemetry.counter(LOG_DROPS).inc)
    place = {"splitwise.role": config.role, "splitwise.pool": config.pool}
    place |= {"service.instance.id": os.environ.get("POD_NAME", config.listen)}
    tracing = open_tracing(Component.SIDECAR, os.environ, telemetry, place)
    is_ready = False

    def ready(now: bool) -> None:
        nonlocal is_ready
        is_ready = now

    # A worker is not asked for: the sidecar is up first, and the worker waits for it.
    page = StatusServer(telemetry.registry, lambda: None if is_ready else "starting or draining")
    host, _, port = config.status.rpartition(":")
    page.start(host, int(port))
    try:
        asyncio.run(serve(config, telemetry, tracing.recorder, ready))
    finally:
        tracing.close()
        page.stop()


if __name__ == "__main__":
    sys.exit(main())
