"""`python -m tests.soak.alerts [--healthy]`: the last line is JSON.

The exit code is 1 when an alert has not fired from its cause or has not ended with it; with
`--healthy` when any has fired or a request has failed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tests.soak.alerts.cause import Seen, caused
from tests.soak.alerts.kubernetes import Kubernetes, kubernetes
from tests.soak.alerts.local import Local, local
from tests.soak.alerts.panels import operators_questions, wrong_panels
from tests.support import packages

HEADINGS: Final = ("alert", "cause", "fires after", "ends after")
FACTOR: Final = 60
"""What takes five minutes in the rules takes five seconds; what they compare with stays."""
SCRAPED: Final = 0.9
"""The part of its scrapes that each process must have answered, or silence says nothing."""

Scene = Local | Kubernetes
SCENES: Final[dict[str, Callable[[Path, Path, int], AbstractContextManager[Scene]]]] = {
    "local": local,
    "kubernetes": kubernetes,
}


def main() -> int:
    """0 when all was as it should be."""
    given = _arguments()
    packages.put_on_path()
    reports = {}
    for name in given.on or SCENES:
        with tempfile.TemporaryDirectory(prefix="alerts-") as place:
            with SCENES[name](given.model.absolute(), Path(place), given.factor) as scene:
                if given.healthy:
                    reports[name] = healthy(scene, given.hours * 3600 / given.factor)
                else:
                    reports[name] = alarmed(scene, given.alert)
    print(json.dumps(reports))
    return 0 if all(report["is_right"] for report in reports.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.alerts", description=__doc__)
    parser.add_argument("--healthy", action="store_true", help="a steady load; nothing may fire")
    parser.add_argument("--hours", type=float, default=1.0, help="of the rules' time, if healthy")
    parser.add_argument("--factor", type=int, default=FACTOR, help="by which rules are hastened")
    parser.add_argument("--on", choices=[*SCENES], action="append", help="only there")
    parser.add_argument("--alert", action="append", default=[], help="only from its cause")
    parser.add_argument("--model", type=Path, default=Path(".cache/models/tiny"))
    return parser.parse_args()


def healthy(scene: Scene, seconds: float) -> dict[str, Any]:
    """A load that is served at once, and the alerts that fire nevertheless."""
    with scene.load() as statuses:
        time.sleep(seconds)
        scraped = scene.watch.prometheus.number(f"min(avg_over_time(up[{round(seconds)}s]))")
    fired = sorted(scene.watch.ever())
    print(f"{scene.name}: {sum(statuses.values())} requests in {seconds:.0f} s; fired: {fired}")
    is_right = not fired and scraped > SCRAPED and set(statuses) == {"200"}
    return {"statuses": statuses, "scraped": scraped, "fired": fired, "is_right": is_right}


def alarmed(scene: Scene, only: list[str]) -> dict[str, Any]:
    """All its causes, one after the other, under a load; a table of what came of them."""
    seen: list[Seen] = []
    print(f"\n{scene.name}\n", _row(HEADINGS), _row(["---"] * len(HEADINGS)), sep="\n")
    with scene.load():
        for cause in scene.causes():
            if not only or set(only) & set(cause.alerts):
                seen.append(caused(scene.watch, cause))
                print(*map(_row, seen[-1].rows()), sep="\n", flush=True)
                if seen[-1].others:
                    print(f"  beside it: {', '.join(sorted(seen[-1].others))}", file=sys.stderr)
    report: dict[str, Any] = {
        "fired_s": {alert: one for each in seen for alert, one in each.fired_s.items()},
        "ended_s": {alert: one for each in seen for alert, one in each.ended_s.items()},
        "is_right": all(each.is_right for each in seen),
    }
    if isinstance(scene, Kubernetes) and not only:
        wrong = wrong_panels(scene.watch.prometheus, scene.cluster)
        print(f"\n{len(list(operators_questions()))} queries of an operator, wrong: {wrong}")
        report |= {"wrong_panels": wrong, "is_right": report["is_right"] and not wrong}
    return report


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
