"""Images that a node can have. They hold nothing: programs come from where the tests run."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run yet, as its status says it."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Images:
    """The names of all images that there are, a line each in a file that may change any time."""

    file: Path

    def write(self, names: Iterable[str]) -> None:
        """Replaces them all in one step."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text("".join(f"{name}\n" for name in sorted(set(names))))
        fresh.replace(self.file)

    def read(self) -> set[str]:
        """The names now."""
        return set(self.file.read_text().splitlines())

    async def pull(self, image: Callable[[], str], waits: Callable[[Waiting], None]) -> None:
        """Returns once the image is there. Which one that is may change meanwhile."""
        reason = "ErrImagePull"
        while (name := image()) not in self.read():
            problem = f'failed to pull and unpack image "{name}": not found'
            backing_off = f'Back-off pulling image "{name}": ErrImagePull: '
            message = problem if reason == "ErrImagePull" else backing_off + problem
            waits(Waiting(reason, message))
            reason = "ImagePullBackOff"
            await asyncio.sleep(POLL_S)


def entrypoint(image: str) -> list[str]:
    """The command of an image: the program of its name."""
    return [image.rpartition("/")[2].partition("@")[0].partition(":")[0]]
