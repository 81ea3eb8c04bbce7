"""What containers are made from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Images:
    """An image reference for each component; by default what images/ builds, by its bare name."""

    worker: str = "splitwise-worker"
    sidecar: str = "splitwise-sidecar"
    router: str = "splitwise-router"
