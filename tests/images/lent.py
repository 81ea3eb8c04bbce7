"""Packages that are too large to be installed once more, borrowed from the tests' environment."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def lend(name: str, site: Path) -> None:
    """Links a package of the tests' environment, and what it needs, into another."""
    for needed in needed_by(name, set()):
        files = distribution(needed).files or []
        for top in {file.parts[0] for file in files if not file.parts[0].startswith("..")}:
            if not (site / top).exists() and top != "__pycache__":
                (site / top).symlink_to(Path(str(distribution(needed).locate_file(top))))


def needed_by(name: str, found: set[str]) -> set[str]:
    """The distribution and all that it needs, of those that are here."""
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:
        return found
    found.add(canonicalize_name(name))
    for text in requires:
        wanted = Requirement(text)
        if canonicalize_name(wanted.name) not in found and (
            wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        ):
            needed_by(wanted.name, found)
    return found
