"""The sidecar's command line, checked, as one record."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splitwise_core.arguments import address
from splitwise_core.rdma import DEVICES, has_device
from splitwise_sidecar.transports import grpc_bytes, shm, tcp, ucx

TRANSPORTS = (shm.NAME, tcp.NAME, grpc_bytes.NAME)
"""What works on every machine, cheapest first."""
WITH_RDMA = (shm.NAME, ucx.RDMA, tcp.NAME, grpc_bytes.NAME)
"""What is tried where there is an RDMA device."""
KNOWN = (*WITH_RDMA, ucx.NIXL)
"""Every transport there is. `nixl` has to be named: our own `tcp` is faster than UCX's."""
ENCRYPTED = TRANSPORTS
"""Those of them that nobody on the network can listen to: the others need --tls-dir left out."""


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """How this sidecar was started."""

    socket: Path
    listen: str
    listen_tcp: str
    listen_grpc: str
    status: str
    role: str
    pool: str
    transports: tuple[str, ...]
    named: bool
    """Whether somebody chose the transports: then one that cannot work is an error."""
    require_rdma: bool
    drain_seconds: int
    capability_key: Path | None
    tls_dir: Path | None
    tls_name: str


def parse(arguments: Sequence[str]) -> SidecarConfig:
    """The record for `arguments`. Exits with status 2 and a usage message when they are wrong."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    if given["tls_dir"] is not None and not given["tls_name"]:
        parser.error("--tls-dir needs --tls-name: the name in all peers' certificates")
    host = given["listen"].rpartition(":")[0]
    listens = {name: given[name] or f"{host}:0" for name in ("listen_tcp", "listen_grpc")}
    named = given["transports"] is not None or given["require_rdma"]
    transports = given["transports"] or (WITH_RDMA if has_device(DEVICES) else TRANSPORTS)
    if given["require_rdma"]:
        transports = tuple(name for name in transports if name == ucx.RDMA)
    elif given["tls_dir"] is not None and not named:
        transports = ENCRYPTED
    return SidecarConfig(**given | listens | {"named": named, "transports": transports})


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="splitwise-sidecar", description="Moves KV between workers.")
    parser.add_argument("--socket", type=Path, required=True, help="where the worker attaches")
    parser.add_argument("--listen", required=True, type=address, help="host:port for peers")
    parser.add_argument(
        "--listen-tcp",
        type=address,
        help="host:port for KV over TCP; else any port beside --listen",
    )
    parser.add_argument(
        "--listen-grpc",
        type=address,
        help="host:port for KV over gRPC; else any port beside --listen",
    )
    parser.add_argument("--status", required=True, type=address, help="host:port of /metrics")
    parser.add_argument("--role", required=True, choices=["prompt", "token", "mixed"])
    parser.add_argument("--pool", required=True)
    parser.add_argument(
        "--transports", type=_transports, help="cheapest first; else all that this machine has"
    )
    parser.add_argument("--require-rdma", action="store_true", help="end rather than do without")
    parser.add_argument(
        "--capability-key",
        type=Path,
        metavar="FILE",
        help="keys that routers make capabilities with, one a line in hex, newest first; without "
        "it every peer may push that knows a transfer's id",
    )
    parser.add_argument("--drain-seconds", type=int, default=20, help="for transfers under way")
    parser.add_argument(
        "--tls-dir", type=Path, help="ca.crt, tls.crt and tls.key; without it nothing is encrypted"
    )
    parser.add_argument("--tls-name", default="", help="the name in all peers' certificates")
    return parser


def _transports(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in KNOWN]:
        raise ArgumentTypeError(f"unknown: {unknown}; known: {list(KNOWN)}")
    return names
