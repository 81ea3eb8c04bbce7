"""One link between two workers: what is known of it, and what a request sees of a transfer."""

from typing import NamedTuple


class Link(NamedTuple):
    """What is known of one link; `bytes_per_s` is 0 while nothing is."""

    latency_s: float
    bytes_per_s: float
    failing: bool


def seen_s(link: Link, kv_bytes: int, prompt_s: float, layers: int) -> float:
    """Seconds that a request waits for its KV once its prompt is done.

    Layers go out while later ones are computed, so what takes no longer than the prompt is hidden,
    but for the last layer.
    """
    if link.bytes_per_s <= 0:
        return 0.0
    whole_s = kv_bytes / link.bytes_per_s
    return link.latency_s + max(whole_s - prompt_s, whole_s / max(layers, 1))
