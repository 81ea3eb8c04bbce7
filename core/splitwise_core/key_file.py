"""The keys that capabilities are made with, as a file: changed under a running process."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from splitwise_core.capability import parse_keys
from splitwise_core.errors import UserError

log = logging.getLogger("splitwise.key_file")

MAX_FILE_BYTES: Final = 4096

_Look = tuple[int, int, int] | None
"""What differs whenever the file's content may; None where there is no file."""


class KeyFile:
    """The keys in the file `path`. `load` first; later changes are found by looking.

    A change that does not read is counted (`failed`) and said, and the keys stay as they were: an
    accident with the file does not end the service.
    """

    def __init__(self, path: Path, failed: Callable[[], None]) -> None:
        self._path = path
        self._failed = failed
        self._keys: tuple[bytes, ...] = ()
        self._looked: _Look = None

    def load(self) -> None:
        """Reads the file. Raises UserError when it has no keys."""
        self._looked = _look(self._path)
        self._keys = _read(self._path)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of now, the newest first; one `stat` when nothing has changed."""
        looked = _look(self._path)
        if looked != self._looked:
            self._looked = looked
            self._read_again()
        return self._keys

    def _read_again(self) -> None:
        try:
            self._keys = _read(self._path)
        except UserError as error:
            self._failed()
            log.error("capability keys stay as they were", extra={"fields": {"why": error}})
        else:
            log.info("capability keys read", extra={"fields": {"keys": len(self._keys)}})


def _look(path: Path) -> _Look:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        with path.open("rb") as file:
            return parse_keys(file.read(MAX_FILE_BYTES).decode("ascii"))
    except OSError as error:
        wrong = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        wrong = "it is not text"
    except ValueError as error:
        wrong = str(error)
    raise UserError(
        "unreadable-file",
        where=f"--capability-key {path}",
        wrong=wrong,
        fix="write one key a line, newest first, each as `openssl rand -hex 32` prints one",
    )
