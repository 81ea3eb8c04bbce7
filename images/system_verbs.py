"""Gives NIXL the system's verbs libraries: `python system_verbs.py SITE-PACKAGES`.

NIXL's wheel brings libibverbs under a name of its own. The drivers of network cards (bnxt_re,
irdma, efa, rxe and others) belong to the system's libibverbs and are never found by that one, so
that only the driver that the wheel brings as well, mlx5's, would work. Links to the system's files
in place of the wheel's are one library for all. It needs libibverbs1 and ibverbs-providers.
"""

import re
import sys
from ctypes.util import find_library
from pathlib import Path

BUNDLED = re.compile(r"(lib(?:ibverbs|mlx5))-[0-9a-f]+\.so\..*")


def main(packages: Path) -> int:
    """Exit status 0 when what NIXL brings of verbs is the system's now, 1 when that has none."""
    bundled = {
        path: match[1]
        for path in packages.glob("nixl*.libs/lib*")
        if (match := BUNDLED.fullmatch(path.name))
    }
    for path, name in bundled.items():
        system = _system(name)
        if system is None:
            sys.stderr.write(f"no {name} here: install libibverbs1 and ibverbs-providers\n")
            return 1
        path.unlink()
        path.symlink_to(system)
    return 0 if bundled else 1


def _system(name: str) -> Path | None:
    """The system's library, by its whole path."""
    known = find_library(name.removeprefix("lib"))
    for directory in (*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib")):
        if known and (directory / known).exists():
            return directory / known
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
