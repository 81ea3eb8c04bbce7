"""One pod: its containers in the order of a kubelet, native sidecars first and last."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.container import Container
from splitwise_cli.runner.environment import invocation
from splitwise_cli.runner.plan import PodPlan

SIDECAR_GRACE_S: Final = 2.0
"""What is left to sidecars when the main containers have used up the pod's grace."""


@dataclass(slots=True)
class Pod:
    """A planned pod and its containers."""

    plan: PodPlan
    sidecars: list[Container]
    main: list[Container]
    _starting: asyncio.Task[None] | None = field(default=None)

    @classmethod
    def create(
        cls,
        plan: PodPlan,
        volumes: Mapping[str, Path],
        cpu_millis: int,
        logs: Path,
        changed: Callable[[], None],
    ) -> "Pod":
        """The pod with nothing started yet."""

        def container(spec: Mapping[str, Any]) -> Container:
            return Container(
                spec=spec,
                invocation=invocation(spec, plan, volumes, cpu_millis),
                address=plan.address,
                log_file=logs / f"{plan.name}.{spec['name']}.log",
                grace_s=_grace_s(plan),
                changed=changed,
            )

        return cls(
            plan,
            sidecars=[container(spec) for spec in plan.spec.get("initContainers", [])],
            main=[container(spec) for spec in plan.spec["containers"]],
        )

    @property
    def ready(self) -> bool:
        """Whether every container is ready."""
        return all(container.ready for container in self.containers())

    def containers(self) -> Iterator[Container]:
        """All containers, in the order they start."""
        yield from self.sidecars
        yield from self.main

    def start(self) -> None:
        """Starts the containers, each sidecar only when the one before it has started."""
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        for sidecar in self.sidecars:
            sidecar.start()
            await sidecar.started.wait()
        for container in self.main:
            container.start()

    async def stop(self) -> None:
        """Ends the main containers together, then the sidecars in reverse order."""
        if self._starting is not None:
            self._starting.cancel()
        grace_s = _grace_s(self.plan)
        give_up = time.monotonic() + grace_s
        await asyncio.gather(*(container.stop(grace_s) for container in self.main))
        for sidecar in reversed(self.sidecars):
            await sidecar.stop(max(SIDECAR_GRACE_S, give_up - time.monotonic()))

    def status(self) -> dict[str, Any]:
        """As `splitwise status -o json` shows it."""
        plan = self.plan
        return {
            "name": plan.name,
            "pool": plan.pool,
            "role": plan.role,
            "address": plan.address,
            "ready": self.ready,
            "restarts": sum(container.restarts for container in self.containers()),
            "metrics": [
                f"http://{plan.address}:{port['containerPort']}/metrics"
                for container in self.containers()
                for port in container.spec.get("ports", [])
                if port["name"].endswith(("status", "http"))
            ],
            "containers": [
                {
                    "name": container.name,
                    "pid": container.pid,
                    "ready": container.ready,
                    "restarts": container.restarts,
                }
                for container in self.containers()
            ],
        }


def _grace_s(plan: PodPlan) -> float:
    return float(plan.spec.get("terminationGracePeriodSeconds", 30))
