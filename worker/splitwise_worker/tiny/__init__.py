"""The tiny checkable model: trained in a minute on text that it can be asked about."""

import hashlib
import shutil
from pathlib import Path

from splitwise_core import tiny_tasks
from splitwise_worker.tiny.train import train

__all__ = ["cached_tiny_model", "train"]


def cached_tiny_model(cache: Path) -> Path:
    """The directory of a trained model below `cache`, trained there when it is missing.

    The name holds a digest of the code that makes it, so a change of that trains anew.
    """
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), Path(tiny_tasks.__file__)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    directory = cache / f"tiny-{digest}"
    if not (directory / "config.json").exists():
        fresh = cache / f"tiny-{digest}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        train(fresh)
        fresh.rename(directory)
    return directory
