"""`splitwise doctor`: what this machine lacks to run a cluster, and the fix."""

import fcntl
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeVar

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from splitwise_cli.preflight import (
    check_certificates,
    check_gpus,
    check_model,
    check_port,
    check_rdma,
)
from splitwise_cli.runner.gpus import gpus
from splitwise_cli.runner.state import default_state_dir
from splitwise_core.errors import UserError
from splitwise_core.manifest import load_cluster
from splitwise_core.quantity import quantity
from splitwise_core.rdma import EXTRA, has_device, nixl_module
from splitwise_core.spec import SplitwiseCluster

MEMORY_BYTES: Final = 2 << 30

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and the fix when it is not well."""

    check: str
    well: bool
    found: str
    fix: str = ""


def doctor(file: Path | None, output: Literal["table", "json"]) -> bool:
    """Prints all findings; True when all is well."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _cores,
        _memory,
        _shared_memory,
        _packages,
        _state_directory,
    ]
    findings = [check() for check in checks]
    if file is not None:
        findings += _cluster(file)
    if output == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = None if sys.stdout.isatty() else 140
        Console(highlight=False, width=width).print(_table(findings))
    return all(finding.well for finding in findings)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    well = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Finding("python", well, found, "use Python 3.11 to 3.13")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    fix = "two cores or more let prompt and token workers compute at the same time"
    return Finding("cores", cores >= 2, str(cores), fix)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    fix = "lower kvMemory of the pools, or free memory"
    return Finding("memory", free >= MEMORY_BYTES, f"{free / 2**30:.1f} GiB available", fix)


def _shared_memory() -> Finding:
    """Whether memory can be shared and sealed, as between worker and sidecar."""
    try:
        descriptor = os.memfd_create("splitwise-doctor", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, 4096)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        os.close(descriptor)
    except OSError as error:
        return Finding("shared memory", False, str(error), "run on Linux 3.17 or newer")
    return Finding("shared memory", True, "memfd with seals")


def _packages() -> Finding:
    needed = ("torch", "safetensors", "grpc", "xxhash", "starlette", "uvicorn", "tokenizers")
    missing = [name for name in needed if find_spec(name) is None]
    found = f"missing: {', '.join(missing)}" if missing else "all there"
    return Finding("packages", not missing, found, "pip install 'splitwise[local]'")


def _state_directory() -> Finding:
    directory = default_state_dir()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    well = os.access(existing, os.W_OK)
    return Finding("state directory", well, str(directory), "name another with --state-dir")


def _cluster(file: Path) -> list[Finding]:
    try:
        cluster = load_cluster(file)
    except UserError as error:
        return [Finding("cluster file", False, f"{error.where}: {error.wrong}", error.fix)]
    spec = cluster.spec
    return [
        Finding("cluster file", True, str(file)),
        _passed("router port", f"{spec.router.port} is free", check_port, spec.router.port),
        _passed("model", spec.model.path, check_model, Path(spec.model.path)),
        _passed("GPUs", f"{len(gpus())} here", check_gpus, spec.pools),
        _passed("RDMA", _rdma(), check_rdma, spec.transfer),
        _passed("certificates", spec.transfer.tls.mode, check_certificates, spec.transfer.tls),
        _kv_memory(cluster),
    ]


def _rdma() -> str:
    if not has_device():
        return "no device: KV moves by shared memory, TCP or gRPC"
    return "a device" if nixl_module() else f"a device, and no NIXL to use it: {EXTRA}"


def _passed(check: str, found: str, run: Callable[[T], None], subject: T) -> Finding:
    """The finding of a check that raises UserError when something is not well."""
    try:
        run(subject)
    except UserError as error:
        return Finding(check, False, f"{error.where}: {error.wrong}", error.fix)
    return Finding(check, True, found)


def _kv_memory(cluster: SplitwiseCluster) -> Finding:
    """The memory that all pools reserve at their start."""
    wanted = sum(int(quantity(p.kv_memory)) * p.seed for p in cluster.spec.pools)
    free = psutil.virtual_memory().available
    found = f"at most {wanted / 2**30:.1f} of {free / 2**30:.1f} GiB"
    return Finding("KV memory", wanted < free, found, "lower kvMemory or replicas of the pools")


def _table(findings: list[Finding]) -> Table:
    table = Table()
    for name in ("check", "", "found", "fix"):
        table.add_column(name)
    for finding in findings:
        mark = "[green]ok[/]" if finding.well else "[red]no[/]"
        fix = "" if finding.well else finding.fix
        table.add_row(finding.check, mark, escape(finding.found), escape(fix))
    return table
