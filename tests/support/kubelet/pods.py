"""The pods bound to a node: each is run once, however often the API server speaks of it."""

import asyncio
import logging
from dataclasses import dataclass, field

from tests.support.kubelet.api import Object
from tests.support.kubelet.house import House
from tests.support.kubelet.pod import PodRun

log = logging.getLogger("kubelet.pods")


@dataclass(slots=True)
class Pods:
    """Follows the API server. A uid stays known until the API server no longer has it."""

    house: House
    _runs: dict[str, PodRun] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _last_given: int = 1

    async def follow(self) -> None:
        """Runs what is bound to the node, until it is cancelled."""
        query = f"fieldSelector=spec.nodeName={self.house.node.name}"
        async for kind, found in self.house.api.watch("/api/v1/pods", query):
            if kind == "LISTED":
                self._see_all(found["items"])
            elif kind == "DELETED":
                self._lose(found["metadata"]["uid"])
            elif kind in ("ADDED", "MODIFIED"):
                self._see(found)

    def kill(self) -> None:
        """SIGKILL to every process of every pod."""
        for run in self._runs.values():
            run.kill()

    def _see_all(self, pods: list[Object]) -> None:
        for uid in self._runs.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._lose(uid)
        for pod in pods:
            self._see(pod)

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._runs:
            self._runs[uid] = PodRun(self.house, pod, self._address(pod))
            task = asyncio.create_task(self._runs[uid].live(), name=pod["metadata"]["name"])
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        self._runs[uid].see(pod)

    def _lose(self, uid: str) -> None:
        if run := self._runs.pop(uid, None):
            run.lose()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s", task.get_name(), exc_info=error)

    def _address(self, pod: Object) -> str:
        """One of the node's that no pod has; the least recently used, as far as can be."""
        if pod["spec"].get("hostNetwork"):
            return self.house.node.address
        taken = {run.address for run in self._runs.values()}
        for step in range(1, 254):
            last = (self._last_given - 1 + step) % 253 + 2
            address = f"10.244.{self.house.node.number}.{last}"
            if address not in taken:
                self._last_given = last - 1
                return address
        raise RuntimeError(f"node {self.house.node.name} has no address left")
