"""`make demo-monitoring`: a cluster under load, a Prometheus beside it, what dashboards show."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from rich.table import Table

from examples.demo import MODEL, ROOT, SPLITWISE, console, free_port, splitwise
from monitoring import grafana
from monitoring.dashboards import BOARDS, Board
from monitoring.prometheus import NEEDS, PROGRAM, Prometheus, Sample, prometheus, scraping
from monitoring.questions import Question, filled, questions
from monitoring.rules import SOURCE

STATE = ROOT / ".local" / "demo-monitoring"
CLUSTER = ROOT / "examples" / "monitored.yaml"
LOAD = ("--rate", "15", "--duration", "20", "--prompt-tokens", "80", "--output-tokens", "24")
SCRAPED_EVERY_S = 1.0
VARIABLES = {"namespace": ".*", "cluster": ".*", "pool": ".*", "__rate_interval": "30s"}
MOST_LINES = 5
UNITS = {
    "short": "",
    "reqps": "/s",
    "ops": "/s",
    "binBps": "B/s",
    "bytes": "B",
    "watt": "W",
    "joule": "J",
    "currencyUSD": "$",
}


def main() -> int:
    """0 when every query that needs no operator has an answer."""
    console.print("[bold]the tiny model[/] (trained once, then cached)")
    splitwise("model", "tiny", str(MODEL))
    console.print(f"[bold]a cluster, and a Prometheus beside it[/]: {CLUSTER.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory() as directory, up():
        configuration = scraping(STATE / "prometheus.json", SCRAPED_EVERY_S, [SOURCE])
        listen = f"127.0.0.1:{free_port(9090)}"
        with prometheus(configuration, Path(directory), listen) as watching:
            console.print(f"[bold]a load[/]: splitwise bench {' '.join(LOAD)}")
            splitwise("bench", *LOAD, "--state-dir", str(STATE))
            time.sleep(2 * SCRAPED_EVERY_S)  # what was counted last is scraped
            missing = [question for board in BOARDS for question in show(board, watching)]
            show_alerts(watching)
            serve_grafana(Path(directory), watching.url)
    for question in missing:
        console.print(f"[red]no answer[/]: {question.board}, {question.panel}: {question.expr}")
    return 1 if missing else 0


@contextmanager
def up() -> Iterator[None]:
    """The cluster while it runs."""
    port = str(free_port())
    splitwise("up", "-f", str(CLUSTER), "--detach", "--port", port, "--state-dir", str(STATE))
    try:
        yield
    finally:
        subprocess.run([SPLITWISE, "down", "--state-dir", str(STATE)], check=False)


def show(board: Board, watching: Prometheus) -> list[Question]:
    """Prints what its panels show now. Returns what should have an answer and has none."""
    table = Table(title=board.title, title_justify="left", expand=True)
    table.add_column("panel", ratio=2)
    table.add_column("now", ratio=5)
    missing = []
    for panel, asked in groupby(questions(board), key=lambda question: question.panel):
        lines = []
        for question in asked:
            found = watching.ask(filled(question.expr, VARIABLES))
            lines += list(shown(question, found))
            if not found and not question.needs_operator:
                missing.append(question)
        more = f"   … {len(lines)} in all" if len(lines) > MOST_LINES else ""
        table.add_row(panel, "   ".join(lines[:MOST_LINES]) + more)
    console.print(table)
    return missing


def show_alerts(watching: Prometheus) -> None:
    """Which of our rules' alerts fire: after a load that the cluster carries, none should."""
    firing = watching.ask('ALERTS{alertstate="firing"}')
    names = sorted({alert.labels["alertname"] for alert in firing})
    console.print(f"[bold]alerts that fire[/]: {', '.join(names) or 'none'}")


def shown(question: Question, found: Sequence[Sample]) -> Iterator[str]:
    """The lines of an answer, as a panel's legend would have them."""
    if not found:
        yield "[dim]an operator's, on Kubernetes[/]" if question.needs_operator else "[red]–[/]"
    elif question.kind == "heatmap":
        yield f"{len(found)} buckets"
    else:
        for sample in found:
            name = question.named(sample.labels)
            yield f"{name} [bold]{pretty(sample.value, question.unit)}[/]"


def pretty(value: float, unit: str) -> str:
    """A value with its unit, about as Grafana would write it."""
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s" and value < 1:
        return f"{value * 1e3:.3g} ms"
    word = UNITS.get(unit, unit.removeprefix("suffix: "))
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size and unit != "s":
            return f"{value / size:.3g} {prefix}{word}"
    return f"{value:.3g} {word}".strip()


def serve_grafana(directory: Path, prometheus_url: str) -> None:
    """Where a Grafana is installed, and somebody is there to look: until Ctrl-C."""
    server = grafana.program()
    if server is None:
        console.print("no Grafana is installed here: nothing draws the dashboards")
        return
    if not sys.stdin.isatty():
        return
    grafana.provision(directory, prometheus_url)
    with grafana.grafana(server, directory, free_port(3000)) as url:
        console.print(f"[bold]Grafana[/] at {url} until Ctrl-C")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    if shutil.which(PROGRAM) is None:
        sys.exit(NEEDS)
    sys.exit(main())
