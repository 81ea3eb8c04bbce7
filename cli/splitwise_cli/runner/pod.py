"""One pod: its containers in the order of a kubelet, native sidecars first and last."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.container import Container, unless_mistaken, until_done
from splitwise_cli.runner.environment import invocation
from splitwise_cli.runner.plan import PodPlan
from splitwise_cli.runner.scraping import metrics_of

SIDECAR_GRACE_S: Final = 2.0
"""What is left to sidecars when the main containers have used up the pod's grace."""


@dataclass(slots=True)
class Pod:
    """A planned pod and its containers."""

    plan: PodPlan
    init: list[Container]
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
                grace_s=grace_of(plan),
                changed=changed,
            )

        def first(spec: Mapping[str, Any]) -> Container:
            made = container(spec)
            made.again = unless_mistaken if made.is_sidecar else until_done
            return made

        return cls(
            plan,
            init=[first(spec) for spec in plan.spec.get("initContainers", [])],
            main=[container(spec) for spec in plan.spec["containers"]],
        )

    @property
    def ready(self) -> bool:
        """Whether every container is ready that is to go on running."""
        running = [container for container in self.init if container.is_sidecar] + self.main
        return all(container.ready for container in running)

    def containers(self) -> Iterator[Container]:
        """All containers, in the order they start."""
        yield from self.init
        yield from self.main

    def start(self) -> None:
        """Starts the containers, each when the init containers before it are done or started."""
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        for container in self.init:
            container.start()
            await (container.started if container.is_sidecar else container.finished).wait()
            if container.finished.is_set() and container.exit_code != 0:
                return
        for container in self.main:
            container.start()

    async def stop(self, grace_s: float | None = None) -> None:
        """Ends the main containers together, then the init containers in reverse order.

        The grace in seconds is the pod's own unless `grace_s` is given.
        """
        if self._starting is not None:
            self._starting.cancel()
        grace_s = grace_of(self.plan) if grace_s is None else grace_s
        give_up = time.monotonic() + grace_s
        await asyncio.gather(*(container.stop(grace_s) for container in self.main))
        for container in reversed(self.init):
            await container.stop(max(SIDECAR_GRACE_S, give_up - time.monotonic()))

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
            "metrics": [f"http://{target}/metrics" for _, target in metrics_of(plan)],
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


def grace_of(plan: PodPlan) -> float:
    """Seconds that the pod has for its end."""
    return float(plan.spec.get("terminationGracePeriodSeconds", 30))
