"""Links between workers in virtual time: each carries one transfer after the other.

A worker's link sends or receives at its own speed, and a pair moves at that of the slower one. Who
comes later waits until both ends are free: that is what many transfers to one worker cost. What a
transfer costs beside its bytes is as much one sidecar's work: on a live cluster (docs/planner.md) a
request waited 1.4 ms for its KV, and 2.8, 5.2 and 14 ms where one step had computed two, four and
six prompts.
"""

from collections.abc import Sequence

from splitwise_core.policy.link import Link, seen_s
from splitwise_planner.measured.worker import Job, Worker


class Network:
    """When the link of each worker is free again, by direction, and its sidecar."""

    def __init__(self, workers: list[Worker], layers: int, token_bytes: int) -> None:
        self._workers = workers
        self._layers = layers
        self._token_bytes = token_bytes
        self._sends_until = [0.0] * len(workers)
        self._receives_until = [0.0] * len(workers)
        self._busy_until = [0.0] * len(workers)

    def move(self, jobs: Sequence[Job], began_s: float, now_s: float) -> list[float]:
        """When the KV of prompts is there, whose last step began at `began_s` and ends now; all are
        of one worker.

        Pushed by layer it goes while the step computes; a short prompt goes at the end. What is
        there already is not sent.
        """
        links = [self._link(job) for job in jobs]
        bytes_s = [self._bytes_there(*pair, began_s, now_s) for pair in zip(jobs, links)]
        costs_s = [link.latency_s for link in links]
        ends = {end for job in jobs for end in (job.prompt_worker, job.token_worker)}
        # A sidecar goes to and fro between those that end together: all are done at the same time.
        done_s = max(now_s, *(self._busy_until[end] for end in ends)) + sum(costs_s)
        for end in ends:
            self._busy_until[end] = done_s
        return [max(done_s, came_s + cost_s) for came_s, cost_s in zip(bytes_s, costs_s)]

    def _bytes_there(self, job: Job, link: Link, began_s: float, now_s: float) -> float:
        """When the bytes of one prompt are there."""
        source, target = job.prompt_worker, job.token_worker
        kv_bytes = (job.prompt - job.found_there) * self._token_bytes
        is_layerwise = job.prompt >= self._workers[source].hardware.layerwise_min
        earliest_s = began_s if is_layerwise else now_s
        starts_s = max(earliest_s, self._sends_until[source], self._receives_until[target])
        done_s = starts_s + kv_bytes / link.bytes_per_s
        self._sends_until[source] = self._receives_until[target] = done_s
        bare = link._replace(latency_s=0.0)
        return now_s + seen_s(bare, kv_bytes, now_s - starts_s, self._layers)

    def _link(self, job: Job) -> Link:
        """That of both workers together."""
        ends = [self._workers[end].hardware.link for end in (job.prompt_worker, job.token_worker)]
        return Link(
            max(end.latency_s for end in ends), min(end.bytes_per_s for end in ends), failing=False
        )
