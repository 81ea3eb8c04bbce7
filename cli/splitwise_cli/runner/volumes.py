"""The directory below which all volumes of a running cluster are: short, private, and not kept."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from splitwise_core.errors import UserError

_PREFIX: Final = "sw-"
_SOCKET_PATH_BYTES: Final = 107
"""What Linux allows the path of a unix socket."""
_BELOW_BYTES: Final = len("/49999/9/kv.sock")


@contextmanager
def volumes_directory(link: Path) -> Iterator[Path]:
    """A fresh directory, removed afterwards; what a killed runner left behind `link` goes too.

    Raises UserError when there is no place for it, or none that sockets can be in.
    """
    _remove(link)
    made = _make()
    try:
        link.symlink_to(made)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        link.unlink(missing_ok=True)


def _remove(link: Path) -> None:
    if link.is_symlink():
        left = link.readlink()
        if left.name.startswith(_PREFIX):
            shutil.rmtree(left, ignore_errors=True)
        link.unlink()


def _make() -> Path:
    parent = tempfile.gettempdir()
    try:
        made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        wrong = f"no directory can be made in {parent}: {error.strerror}"
        fix = "set TMPDIR to a directory that can be written"
        raise UserError("environment", where="TMPDIR", wrong=wrong, fix=fix) from error
    if len(os.fsencode(made)) > _SOCKET_PATH_BYTES - _BELOW_BYTES:
        made.rmdir()
        wrong = f"{parent} is too long for the path of a socket below it"
        fix = "set TMPDIR to a shorter path, such as /tmp"
        raise UserError("environment", where="TMPDIR", wrong=wrong, fix=fix)
    return made
