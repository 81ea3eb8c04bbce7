"""Does what a Containerfile says without a container engine.

The image's directories are below one of ours, and the base image is a fresh environment of this
Python. What stays unproven is what an engine adds: the base image itself, and the isolation.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_INSIDE: Final = re.compile(r"(?<![\w./}])/(?=(?:opt|src)/|src\b)")
"""A path of the image in a command: ours are all below /src and /opt."""

_OURS: Final = frozenset({"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CC"})
"""Of the tests' own Python. What names proxies and certificates stays: steps fetch packages."""

_STEP_S: Final = 300
_UNUSED: Final = shutil.ignore_patterns("__pycache__", "*.pyc")


def instructions(file: Path) -> Iterator[tuple[str, str]]:
    """Each instruction's word and the rest, lines joined."""
    kept = (line for line in file.read_text("utf-8").splitlines() if not line.startswith("#"))
    text = re.sub(r"\\\n\s*", "", "\n".join(kept))
    for line in text.splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


@dataclass
class Image:
    """An image as it is being made; `root` stands for its / from the first stage to the last."""

    root: Path
    base: Path
    """The bin directory of the base image's Python."""
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Of the builder: not in the image."""
    kept_environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: str = ""
    stages: dict[str, Path] = field(default_factory=dict)
    directory: str = "/"

    def build(self, file: Path) -> "Image":
        """Follows the file. Raises CalledProcessError at a step that fails."""
        steps = list(instructions(file))
        for word, rest in steps:
            if word == "ARG":
                self._arg(rest)
        for word, rest in self._needed(steps):
            getattr(self, f"_{word.lower()}")(rest)
        return self

    def _needed(self, steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The steps of the last stage and of those that it is made of; engines skip the others."""
        stages: list[list[tuple[str, str]]] = [[]]
        for step in steps:
            if step[0] == "FROM":
                stages.append([])
            stages[-1].append(step)
        wanted: set[str] = set()
        needed: list[tuple[str, str]] = []
        for stage in reversed(stages[1:]):
            origin, _, name = self._filled(stage[0][1]).partition(" AS ")
            if not needed or name in wanted:
                copied = re.findall(r"--from=(\S+)", " ".join(rest for _, rest in stage))
                wanted |= {origin, *copied}
                needed = stage + needed
        return needed

    def run(
        self, command: list[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the image as its user, who has no name and no home."""
        user, _, group = self.user.partition(":")
        become = ["/usr/bin/unshare", "--user", f"--map-user={user}", f"--map-group={group}", "--"]
        kept = {name: self._here(text) for name, text in self.kept_environment.items()}
        return subprocess.run(
            [*become, *command],
            env=kept | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
            cwd=self.root,
        )

    def freeze(self) -> None:
        """Nothing of the image can be written from now on."""
        subprocess.run(["chmod", "-R", "a-w", str(self.root)], check=True)

    def thaw(self) -> None:
        """So that it can be removed."""
        subprocess.run(["chmod", "-R", "u+w", str(self.root)], check=True)

    def _here(self, text: str) -> str:
        return _INSIDE.sub(f"{self.root}/", text)

    def _from(self, rest: str) -> None:
        name, _, alias = self._filled(rest).partition(" AS ")
        if name in self.stages:  # goes on where that stage ended
            self.stages[alias] = self.stages[name]
            return
        if self.root.exists():  # its files stay reachable for COPY --from, its paths do not
            aside = self.root.with_name(f"{self.root.name}.build")
            self.root.rename(aside)
            self.stages = dict.fromkeys(self.stages, aside)
        self.root.mkdir(parents=True)
        if alias:
            self.stages[alias] = self.root

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], text)

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self.arguments.setdefault(name, default)

    def _workdir(self, rest: str) -> None:
        self.directory = rest
        (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, last = rest.split()
        origin = ROOT
        if sources[0].startswith("--from="):
            origin = self.stages[sources.pop(0).partition("=")[2]]
        target = self.root / str(Path(self.directory) / last).lstrip("/")
        for name in sources:
            source = origin / name.lstrip("/")
            if source.is_dir():
                ignored = _UNUSED if origin == ROOT else None
                shutil.copytree(source, target, symlinks=True, ignore=ignored)
            else:
                shutil.copy2(source, target)  # into it where it is a directory

    def _run(self, rest: str) -> None:
        if rest.startswith("apt-get"):  # it would change this machine, not the image
            return
        path = f"{self.base}:/usr/local/bin:/usr/bin:/bin"
        subprocess.run(
            ["/bin/sh", "-c", self._here(rest)],
            cwd=self.root / self.directory.lstrip("/"),
            env={name: text for name, text in os.environ.items() if name not in _OURS}
            | {"PATH": path, "UV_PYTHON_DOWNLOADS": "never"}
            | self.arguments
            | self.environment,
            check=True,
            timeout=_STEP_S,
            stdout=sys.stderr,
        )

    def _env(self, rest: str) -> None:
        self.kept_environment |= _pairs(rest)

    def _label(self, rest: str) -> None:
        self.labels |= _pairs(rest)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _entrypoint(self, rest: str) -> None:
        (self.entrypoint,) = json.loads(rest)


def _pairs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in shlex.split(text))}
