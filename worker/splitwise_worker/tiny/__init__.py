"""The tiny checkable model: trained in a minute on text that it can be asked about."""

import fcntl
import hashlib
import shutil
from pathlib import Path
from typing import Final

from splitwise_core import tiny_tasks
from splitwise_core.errors import UserError

__all__ = ["make"]

RECIPE: Final = "recipe"
"""The file in a made directory that holds a digest of the code that made it."""

_MAKERS: Final = ("exam.py", "lookback.py", "network.py", "rows.py", "train.py", "vocabulary.py")
"""What decides, with the tasks, which weights come out."""


def make(directory: Path) -> bool:
    """Trains the tiny model into `directory`, unless it is there; whether it was trained now.

    A change of the code that makes it trains anew. Of several processes that ask at once one
    trains, and the others wait for it. Raises UserError for a directory that holds something else.
    """
    directory = directory.absolute()
    recipe = _recipe()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _recipe_of(directory) == recipe:
            return False
        from splitwise_worker.tiny.train import train  # torch, which takes seconds to import

        fresh = directory.with_name(f".{directory.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        train(fresh)
        (fresh / RECIPE).write_text(recipe, "utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        fresh.rename(directory)
    return True


def _recipe() -> str:
    sources = [Path(tiny_tasks.__file__), *(Path(__file__).with_name(name) for name in _MAKERS)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _recipe_of(directory: Path) -> str | None:
    """What made `directory`; None when there is nothing yet."""
    if (directory / RECIPE).is_file():
        return (directory / RECIPE).read_text("utf-8")
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    raise UserError(
        "environment",
        where=str(directory),
        wrong="something else than a tiny model is there",
        fix="name a directory that does not exist yet, or is empty",
    )
