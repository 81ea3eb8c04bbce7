"""The tiny checkable model: trained in a minute on text that it can be asked about."""

import fcntl
import hashlib
import shutil
from pathlib import Path
from typing import Final

from splitwise_core import tiny_tasks
from splitwise_worker.tiny.train import train

__all__ = ["cached_tiny_model", "train"]

_MAKERS: Final = ("lookback.py", "network.py", "rows.py", "train.py", "vocabulary.py")
"""What decides, with the tasks, which weights come out."""


def cached_tiny_model(cache: Path) -> Path:
    """The directory of a trained model below `cache`, trained there when it is missing.

    The name holds a digest of the code that makes it, so a change of that trains anew. Of several
    processes that ask at once one trains, and the others wait for it.
    """
    sources = [Path(tiny_tasks.__file__), *(Path(__file__).with_name(name) for name in _MAKERS)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    directory = cache / f"tiny-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"tiny-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            fresh = cache / f"tiny-{digest}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            train(fresh)
            fresh.rename(directory)
    return directory
