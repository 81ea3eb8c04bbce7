"""What can be known to fail before anything is started: said at once, by the field's name."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from splitwise_cli.runner.gpus import RESOURCE, gpus
from splitwise_core.errors import UserError
from splitwise_core.rdma import DEVICES, EXTRA, has_device, nixl_module
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.spec_pool import Pool
from splitwise_core.spec_tls import Tls
from splitwise_core.spec_transfer import Transfer

ROUTER_HOST: Final = "127.0.0.1"


def check(cluster: SplitwiseCluster) -> None:
    """Raises UserError for the first thing that keeps `cluster` from running here."""
    check_certificates(cluster.spec.transfer.tls)
    check_rdma(cluster.spec.transfer)
    check_gpus(cluster.spec.pools)
    check_model(Path(cluster.spec.model.path))
    check_port(cluster.spec.router.port)


def check_certificates(tls: Tls) -> None:
    """Raises UserError where certificates are to come from Kubernetes."""
    if tls.mode == "Secret":
        raise UserError(
            "environment",
            where="spec.transfer.tls.mode",
            wrong=f"there is no Secret {tls.secret_name} on this machine, nor any other",
            fix="write mode: Auto, which makes certificates of the cluster's own",
        )


def check_rdma(transfer: Transfer) -> None:
    """Raises UserError where nothing but RDMA may move KV, and this machine has none."""
    if transfer.transport != "RDMA" and not transfer.require_rdma:
        return
    where = f"spec.transfer.{'requireRdma' if transfer.require_rdma else 'transport'}"
    if not has_device():
        raise UserError(
            "environment",
            where=where,
            wrong=f"there is no RDMA device in {DEVICES} that may be opened",
            fix="write transport: Auto, without requireRdma: it takes RDMA where there is a device",
        )
    if nixl_module() is None:
        raise UserError("environment", where=where, wrong="NIXL is not installed", fix=EXTRA)


def check_model(directory: Path) -> None:
    """Raises UserError unless `directory` looks like a checkpoint; weights are not opened."""
    where = f"spec.model.path ({directory})"
    fix = "name the directory of a Hugging Face checkpoint, or make one with `splitwise model`"
    if not directory.is_dir():
        wrong = "is no directory" if directory.exists() else "there is no such directory"
        raise UserError("model-missing", where=where, wrong=wrong, fix=fix)
    missing = [name for name in ("config.json", "tokenizer.json") if not _is_there(directory, name)]
    if not any(directory.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        wrong = f"the directory lacks {', '.join(missing)}"
        raise UserError("model-missing", where=where, wrong=wrong, fix="copy the whole checkpoint")
    _check_json(directory / "config.json")


def _is_there(directory: Path, name: str) -> bool:
    return (directory / name).is_file()


def _check_json(file: Path) -> None:
    try:
        content = json.loads(file.read_bytes())
        wrong = "" if isinstance(content, dict) else "holds no JSON object"
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        wrong = f"is not JSON: {error}"
    if wrong:
        fix = "copy the file from the checkpoint again"
        raise UserError("model-corrupt", where=str(file), wrong=wrong, fix=fix)


def check_port(port: int) -> None:
    """Raises UserError when something listens on the router's address, or it may not be taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ROUTER_HOST, port))
        except OSError as error:
            raise UserError(
                "port-taken",
                where=f"spec.router.port ({port})",
                wrong=f"the router cannot listen on {ROUTER_HOST}:{port}: {error.strerror}",
                fix="stop what listens there, or choose another port with `splitwise up --port`",
            ) from error


def check_gpus(pools: Sequence[Pool]) -> None:
    """Raises UserError when this machine has not the GPUs that the pools ask for."""
    found = len(gpus())
    wanted = 0
    for number, pool in enumerate(pools):
        if pool.gpu is None:
            continue
        wanted += pool.seed * pool.gpu.count
        if pool.gpu.resource != RESOURCE or wanted > found:
            raise UserError(
                "environment",
                where=f"spec.pools[{number}].gpu",
                wrong=f"the workers up to this pool take {wanted} of {pool.gpu.resource}, and "
                f"this machine offers {found} of {RESOURCE}",
                fix="leave gpu out to compute on the CPU, or lower replicas",
            )
