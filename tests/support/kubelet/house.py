"""What all pods of a node share."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.kubelet.api import Api
from tests.support.kubelet.images import Images
from tests.support.kubelet.node import Node


@dataclass(frozen=True, slots=True)
class House:
    """A node, what it asks, and where its pods keep their files."""

    api: Api
    node: Node
    images: Images
    directory: Path
    service_environment: dict[str, str]

    @property
    def logs(self) -> Path:
        """The containers' logs: NAMESPACE.POD.CONTAINER.log."""
        return self.directory / "logs"
