"""From a pod's spec and its volumes to the runner's pod, with all that its containers see."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.container import Container, until_done
from splitwise_cli.runner.environment import cpu_millis, invocation
from splitwise_cli.runner.plan import PodPlan
from splitwise_cli.runner.pod import Pod, grace_of
from tests.support.kubelet.api import Api, Object
from tests.support.kubelet.house import House
from tests.support.kubelet.images import entrypoint
from tests.support.kubelet.rootfs import Contained, Mount, contained
from tests.support.kubelet.volumes import READ_ONLY, NotYet, read_keys

WORKERS: Final = 4
"""Among how many pods this machine's cores are shared, where a pod has no limit."""

Data = Mapping[tuple[str, str], Mapping[str, str]]
_ONE_KEY: Final = {"configMapKeyRef": "configMap", "secretKeyRef": "secret"}
_ALL_KEYS: Final = {"configMapRef": "configMap", "secretRef": "secret"}
_KINDS: Final = {"configMap": "ConfigMap", "secret": "Secret"}


@dataclass(frozen=True, slots=True)
class Maker:
    """All that is known of a pod once it can be started."""

    house: House
    pod: Object
    address: str
    directory: Path
    volumes: Mapping[str, Path]
    data: Data

    def make(self, changed: Callable[[], None], gate: Callable[[str], Awaitable[None]]) -> Pod:
        """The runner's pod with nothing started yet; `gate` is asked with a container's name."""
        spec, again = self.pod["spec"], _again(self.pod["spec"].get("restartPolicy", "Always"))

        def container(own: Object, runs_again: Callable[[int], bool]) -> Container:
            message_file = self.directory / f"{own['name']}.message"
            self.directory.mkdir(parents=True, exist_ok=True)
            message_file.touch()
            return Container(
                spec=own,
                invocation=self._invocation(own, message_file),
                address=self.address,
                log_file=self.house.logs / f"{self._log_name}.{own['name']}.log",
                grace_s=grace_of(self._plan),
                changed=changed,
                again=runs_again,
                gate=partial(gate, own["name"]),
                message_file=message_file,
                restarts=_earlier_runs(self.pod, own["name"]),
            )

        def first(own: Object) -> Container:
            if own.get("restartPolicy") == "Always":
                return container(own, _again("Always"))
            return container(own, _again("Never") if again(1) is False else until_done)

        init = [first(own) for own in spec.get("initContainers", [])]
        return Pod(self._plan, init, [container(own, again) for own in spec["containers"]])

    @property
    def _log_name(self) -> str:
        return f"{self.pod['metadata']['namespace']}.{self.pod['metadata']['name']}"

    @property
    def _plan(self) -> PodPlan:
        meta, spec, node = self.pod["metadata"], self.pod["spec"], self.house.node
        fields = {
            "metadata.namespace": meta["namespace"],
            "metadata.uid": meta["uid"],
            "spec.nodeName": node.name,
            "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.hostIP": node.address,
            "status.hostIPs": node.address,
            "status.podIPs": self.address,
        }
        labels, notes = meta.get("labels", {}), meta.get("annotations", {})
        return PodPlan(
            name=meta["name"],
            pool="",
            role="",
            address=self.address,
            labels=labels,
            spec=spec,
            annotations=notes,
            fields=fields,
            data=self.data,
        )

    def _invocation(self, own: Object, message_file: Path) -> Contained:
        command = own.get("command") or entrypoint(own["image"])
        # Paths are what they say they are: the volumes are mounted there.
        bare = {**own, "command": command, "volumeMounts": []}
        plain = invocation(bare, self._plan, {}, cpu_millis(WORKERS))
        plain = replace(plain, env=self.house.service_environment | plain.env)
        told = own.get("terminationMessagePath", "/dev/termination-log")
        mounts = [*self._mounts(own), Mount(message_file, told)]
        scratch = self.directory / f"{own['name']}.root"
        scratch.mkdir(parents=True, exist_ok=True)
        read_only = own.get("securityContext", {}).get("readOnlyRootFilesystem", False)
        return contained(plain, mounts, scratch, read_only, own.get("workingDir"))

    def _mounts(self, own: Object) -> Iterator[Mount]:
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", [])}
        for wanted in own.get("volumeMounts", []):
            source = self.volumes[wanted["name"]] / wanted.get("subPath", "")
            if "subPath" in wanted and not source.exists():
                source.mkdir(parents=True)
            fixed = any(kind in volumes[wanted["name"]] for kind in READ_ONLY)
            yield Mount(source, wanted["mountPath"], fixed or wanted.get("readOnly", False))


async def variables(api: Api, pod: Object) -> Data:
    """The ConfigMaps and Secrets that the pod's variables come from. Raises NotYet."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for kind, reference in _references(container):
            name, optional = reference["name"], reference.get("optional", False)
            keys = await read_keys(api, namespace, kind, name)
            if keys is None and not optional:
                raise NotYet(f'{kind.lower()} "{name}" not found', "CreateContainerConfigError")
            if (key := reference.get("key")) and key not in (keys or {}) and not optional:
                wrong = f"couldn't find key {key} in {_KINDS[kind]} {namespace}/{name}"
                raise NotYet(wrong, "CreateContainerConfigError")
            texts = {key: value.decode() for key, value in (keys or {}).items()}
            found[_KINDS[kind], name] = texts
    return found


def _references(container: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    for variable in container.get("env", []):
        for field, kind in _ONE_KEY.items():
            if field in variable.get("valueFrom", {}):
                yield kind, variable["valueFrom"][field]
    for source in container.get("envFrom", []):
        for field, kind in _ALL_KEYS.items():
            if field in source:
                yield kind, source[field]


def _again(policy: str) -> Callable[[int], bool]:
    """Whether a run that ended with a status is followed by another one."""
    return {"Always": lambda _: True, "OnFailure": until_done, "Never": lambda _: False}[policy]


def _earlier_runs(pod: Object, name: str) -> int:
    """How often a container was started before this kubelet was: it ended with the other one."""
    status = pod["status"]
    every = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    earlier = next((own for own in every if own["name"] == name), None)
    if earlier is None or "containerID" not in earlier:
        return 0
    return int(earlier["restartCount"]) + 1
