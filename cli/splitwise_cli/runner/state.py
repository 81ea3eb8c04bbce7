"""The state directory of a running cluster: who runs it, what runs, and the logs."""

import fcntl
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitwise_core.errors import UserError


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/splitwise/default`, by default below ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "splitwise" / "default"


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths of one state directory. The lock is held as long as its cluster runs."""

    path: Path

    @property
    def logs(self) -> Path:
        """A log a container, and the runner's own."""
        return self.path / "logs"

    @property
    def runner_log(self) -> Path:
        """What the runner itself has to say."""
        return self.logs / "runner.log"

    @property
    def volumes(self) -> Path:
        """A link to the directory with the volumes of the pods that run."""
        return self.path / "volumes"

    @property
    def kv_secret(self) -> Path:
        """A link to the directory with the cluster's certificates and keys, private to its user."""
        return self.path / "kv"

    @property
    def targets(self) -> Path:
        """What a Prometheus is to scrape, while the cluster runs."""
        return self.path / "prometheus.json"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _status(self) -> Path:
        return self.path / "status.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the directory. Raises UserError when another cluster runs in it."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(
                "environment",
                where=str(self.path),
                wrong=f"the state directory cannot be written: {error.strerror}",
                fix="choose another one with --state-dir",
            ) from error
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _exclusive())
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                "already-running",
                where=str(self.path),
                wrong="a cluster is already up with this state directory",
                fix="`splitwise down` stops it; --state-dir runs another one beside it",
            ) from error
        (self.path / "failure").unlink(missing_ok=True)
        try:
            yield
        finally:
            self._status.unlink(missing_ok=True)
            self.targets.unlink(missing_ok=True)
            os.close(descriptor)

    def write_failure(self, text: str) -> None:
        """Keeps why the cluster could not run, for the command that has started the runner."""
        (self.path / "failure").write_text(f"{text}\n", "utf-8")

    def failure(self) -> str | None:
        """What `write_failure` was given since the directory was last taken."""
        path = self.path / "failure"
        return path.read_text("utf-8") if path.exists() else None

    def is_held(self) -> bool:
        """Whether a cluster runs here now. Only asks: to take the lock would keep others from it.

        Raises UserError when the directory cannot be read.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(
                "environment",
                where=str(self.path),
                wrong=f"the state directory cannot be read: {error.strerror}",
                fix="name the one that `splitwise up` was given with --state-dir",
            ) from error
        try:
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _exclusive())
        finally:
            os.close(descriptor)
        kind: int = struct.unpack_from("h", found)[0]
        return kind != fcntl.F_UNLCK

    def write(self, status: dict[str, Any]) -> None:
        """Replaces the status in one step."""
        _replace(self._status, status)

    def write_targets(self, targets: list[dict[str, Any]]) -> None:
        """Replaces what is to be scraped in one step: Prometheus takes it up by itself."""
        _replace(self.targets, targets)

    def read(self) -> dict[str, Any] | None:
        """The last status written, or None when there is none."""
        try:
            content: dict[str, Any] = json.loads(self._status.read_text("utf-8"))
        except FileNotFoundError:
            return None
        return content

    def running(self) -> dict[str, Any]:
        """The status of the cluster that runs here. Raises UserError when there is none."""
        status = self.read() if self.is_held() else None
        if status is None:
            raise UserError(
                "not-running",
                where=str(self.path),
                wrong="no cluster is up with this state directory",
                fix="`splitwise up -f CLUSTER.yaml` starts one; --state-dir names another",
            )
        return status


def _replace(file: Path, content: object) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(content), "utf-8")
    fresh.replace(file)


def _exclusive() -> bytes:
    """A `struct flock` over the whole file; such a lock belongs to the open file."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
