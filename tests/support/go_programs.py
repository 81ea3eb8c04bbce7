"""Programs that the tests build from Go modules: once, then kept in the user's cache."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUILD_S: Final = 1200
"""What a build may take on a slow machine."""


@dataclass(frozen=True, slots=True)
class GoPrograms:
    """A directory of programs. `make` builds them into the directory that it is given."""

    name: str
    told: str
    make: Callable[[Path], None]

    def found(self, environment: Mapping[str, str]) -> Path | None:
        """The directory, or None before it was built."""
        directory = self._directory(environment)
        return directory if directory.exists() else None

    def built(self, environment: Mapping[str, str]) -> Path | None:
        """As `found`, built first where there is Go: some minutes."""
        found = self.found(environment)
        if found is None and shutil.which("go", path=environment.get("PATH")):
            found = self._directory(environment)
            self._build(found)
        return found

    def _directory(self, environment: Mapping[str, str]) -> Path:
        cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(cache) / "splitwise" / self.name

    def _build(self, target: Path) -> None:
        """Builds in a directory beside `target`, which is there only when it is whole."""
        sys.stderr.write(f"building {self.told}\n")
        work = target.with_name(f"{target.name}.{os.getpid()}")
        work.mkdir(parents=True)
        try:
            self.make(work)
            if not target.exists():
                work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
