"""What a container sees: its variables, its arguments, and its volumes as host directories."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.gpus import VISIBLE
from splitwise_cli.runner.plan import PodPlan
from splitwise_core.quantity import quantity

_INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
)
"""Of this process's own environment a container sees only these."""

_REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)|\$\$")
_ENTRY: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_KEYS: Final = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
_ALL_KEYS: Final = {"configMapRef": "ConfigMap", "secretRef": "Secret"}


@dataclass(frozen=True, slots=True)
class Invocation:
    """A container's process: argument vector, environment, and what is behind its mounts."""

    argv: list[str]
    env: dict[str, str]
    mounts: Mapping[str, Path]

    def beside(self, pid: int | None) -> "Invocation":
        """As this, for commands that run beside the container's process `pid`."""
        return self

    def local(self, command: Sequence[str]) -> list[str]:
        """A command of a probe or hook, as this machine runs it."""
        argv = [_mounted(word, self.mounts) for word in command]
        return [_executable(argv[0]), *argv[1:]]


def invocation(
    container: Mapping[str, Any], pod: PodPlan, volumes: Mapping[str, Path], cpu_millis: int
) -> Invocation:
    """How to start `container`, with mounted paths replaced by the directories behind them."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env[VISIBLE] = ",".join(pod.gpus)  # none: the pod has not asked for one
    own = _whole_maps(container.get("envFrom", []), pod)
    for variable in container.get("env", []):
        value = _value(variable, pod, container, cpu_millis, own)
        if value is not None:
            own[variable["name"]] = value
    mounts = {m["mountPath"]: volumes[m["name"]] for m in container.get("volumeMounts", [])}
    words = [*container.get("command", []), *container.get("args", [])]
    argv = [_mounted(expand(word, own), mounts) for word in words]
    argv[0] = _executable(argv[0])
    env |= {name: _mounted(value, mounts) for name, value in own.items()}
    return Invocation(argv, env, mounts)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`: an unknown name stays as it is, `$$` is a dollar sign."""

    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def cpu_millis(workers: int) -> int:
    """This machine's cores shared among the workers, in thousandths, at least half a core."""
    cores = len(os.sched_getaffinity(0))
    return max(500, cores * 1000 // max(1, workers))


def _whole_maps(sources: Sequence[Mapping[str, Any]], pod: PodPlan) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        for key, kind in _ALL_KEYS.items():
            if key in source:
                data = pod.data.get((kind, source[key]["name"]), {})
                found |= {source.get("prefix", "") + name: text for name, text in data.items()}
    return found


def _value(
    variable: Mapping[str, Any],
    pod: PodPlan,
    container: Mapping[str, Any],
    share_millis: int,
    so_far: Mapping[str, str],
) -> str | None:
    """None where an optional key is not there: then the variable is not there either."""
    if "valueFrom" not in variable:
        return expand(variable.get("value", ""), so_far)
    source = variable["valueFrom"]
    if "resourceFieldRef" in source:
        limit = container.get("resources", {}).get("limits", {}).get("cpu")
        return str(round(quantity(limit) * 1000) if limit else share_millis)
    for key, kind in _KEYS.items():
        if key in source:
            return pod.data.get((kind, source[key]["name"]), {}).get(source[key]["key"])
    path = source["fieldRef"]["fieldPath"]
    if found := _ENTRY.fullmatch(path):
        entries = pod.labels if found[1] == "labels" else pod.annotations
        return entries.get(found[2], "")  # as a kubelet does
    return {"metadata.name": pod.name, "status.podIP": pod.address, **pod.fields}[path]


def _mounted(text: str, mounts: Mapping[str, Path]) -> str:
    """Replaces mounted paths in `text`, once; a path that only begins alike is left alone."""
    if not mounts:
        return text
    known = "|".join(re.escape(mount) for mount in sorted(mounts, key=len, reverse=True))
    pattern = rf"(?<![\w./-])({known})(?![\w.-])"
    return re.sub(pattern, lambda match: str(mounts[match[1]]), text)


def _executable(name: str) -> str:
    """Our own commands come from the environment that runs this one."""
    beside = Path(sys.executable).parent
    path = os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=path) or name


def make_volumes(
    volumes: Sequence[Mapping[str, Any]],
    directory: Path,
    files: Mapping[str, Mapping[str, str]],
    secrets: Mapping[str, Path],
) -> dict[str, Path]:
    """A host directory for each volume of a pod: fresh, filled from a ConfigMap, or the host's.

    `files` are those of ConfigMaps. `secrets` are directories: what is renewed in them is seen.
    """
    made: dict[str, Path] = {}
    for number, volume in enumerate(volumes):
        if "hostPath" in volume:
            made[volume["name"]] = Path(volume["hostPath"]["path"])
            continue
        path = directory / str(number)  # short: a unix socket's path has 107 bytes
        path.mkdir(mode=0o700, parents=True)
        if "configMap" in volume:
            for name, text in files[volume["configMap"]["name"]].items():
                (path / name).write_text(text, "utf-8")
        if kept := secrets.get(volume.get("secret", {}).get("secretName")):
            every = [{"key": file.name, "path": file.name} for file in kept.iterdir()]
            for item in volume["secret"].get("items", every):
                (path / item["path"]).symlink_to(kept / item["key"])
        made[volume["name"]] = path
    return made
