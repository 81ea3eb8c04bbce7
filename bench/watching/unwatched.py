"""Our programs with metrics that count nothing: what everything is compared with.

`programs(directory)` writes them there; each changes prometheus_client's metrics to do nothing, and
then is the program whose name it bears.
"""

import stat
import sys
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

NAMES = ("router", "worker", "sidecar")


def forget_everything() -> None:
    """From here on metrics are not moved."""

    def nothing(*_: object, **__: object) -> None:
        return None

    for kind, methods in (
        (Counter, ("inc",)),
        (Gauge, ("inc", "dec", "set")),
        (Histogram, ("observe",)),
    ):
        for method in methods:
            setattr(kind, method, nothing)


def programs(directory: Path) -> Path:
    """Writes them into `directory`, which is returned."""
    for name in NAMES:
        file = directory / f"splitwise-{name}"
        file.write_text(
            f"#!{sys.executable}\n"
            f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from bench.watching.unwatched import forget_everything\nforget_everything()\n"
            f"from splitwise_{name}.main import main\nsys.exit(main())\n"
        )
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return directory
