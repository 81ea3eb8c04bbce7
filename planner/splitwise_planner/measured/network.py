"""Links between workers in virtual time: each carries one transfer after the other.

A worker's link sends or receives at its own speed, and a pair moves at that of the slower one. Who
comes later waits until both ends are free: that is what many transfers to one worker cost.
"""

from splitwise_core.policy.link import Link, seen_s
from splitwise_planner.measured.worker import Job, Worker


class Network:
    """When the link of each worker is free again, by direction."""

    def __init__(self, workers: list[Worker], layers: int, token_bytes: int) -> None:
        self._workers = workers
        self._layers = layers
        self._token_bytes = token_bytes
        self._sends_until = [0.0] * len(workers)
        self._receives_until = [0.0] * len(workers)

    def move(self, job: Job, began_s: float, now_s: float) -> float:
        """When the KV of a prompt is there, whose last step began at `began_s` and ends now.

        Pushed by layer it goes while the step computes; a short prompt goes at the end. What is
        there already is not sent.
        """
        source, target = job.prompt_worker, job.token_worker
        hardware = self._workers[source].hardware
        ends = hardware.link, self._workers[target].hardware.link
        link = Link(
            max(end.latency_s for end in ends), min(end.bytes_per_s for end in ends), failing=False
        )
        kv_bytes = (job.prompt - job.found_there) * self._token_bytes
        earliest_s = began_s if job.prompt >= hardware.layerwise_min else now_s
        starts_s = max(earliest_s, self._sends_until[source], self._receives_until[target])
        done_s = starts_s + kv_bytes / link.bytes_per_s
        self._sends_until[source] = self._receives_until[target] = done_s
        return now_s + seen_s(link, kv_bytes, now_s - starts_s, self._layers)
