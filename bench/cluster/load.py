"""A load for a cluster, through `splitwise bench` as anybody would send it, and its report."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bench.cluster.setups import SPLITWISE
from splitwise_core.trace import read_trace

Report = Mapping[str, Any]

TTFT_SLOWDOWN: Final = 6.0
TBT_SLOWDOWN: Final = 5.0
"""A good answer is at most so much slower than one of an idle cluster: what Patel et al. (ISCA
2024, table VI) allow 99 % of the requests."""

SOLO: Final = ("--arrivals", "constant", "--rate", "1", "--requests", "8")


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, made fit for a small machine."""

    file: Path
    length_scale: float

    def rate(self, requests: int) -> float:
        """Requests a second of so many at its start, as recorded."""
        with self.file.open(encoding="utf-8", newline="") as lines:
            times_s = [a.at_s for a in islice(read_trace(lines, str(self.file)), requests)]
        return (len(times_s) - 1) / times_s[-1]

    def options(self, rate: float, seconds: float) -> list[str]:
        """Replays it at `rate` for `seconds`."""
        scale = ["--length-scale", str(self.length_scale)]
        recorded = self.rate(max(2, round(rate * seconds)))
        time = ["--time-scale", str(recorded / rate), "--duration", str(seconds)]
        return ["--trace", str(self.file), *scale, *time]

    def burst(self, requests: int) -> list[str]:
        """Its first requests, nearly at once."""
        scale = ["--length-scale", str(self.length_scale), "--time-scale", "1e-6"]
        return ["--trace", str(self.file), *scale, "--requests", str(requests)]


def bench(url: str, options: list[str], directory: Path) -> Report:
    """The report of `splitwise bench`; what was lost or failed is in it."""
    file = directory / "report.json"
    file.unlink(missing_ok=True)
    command = [SPLITWISE, "bench", "--url", url, "--json", str(file), "--timeout", "120", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not file.exists():
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    report: Report = json.loads(file.read_text())
    return report


def solo_slo(url: str, prompt_tokens: int, output_tokens: int, directory: Path) -> list[str]:
    """The limits of a good answer: multiples of the median of requests that come one by one."""
    sizes = ["--prompt-tokens", str(prompt_tokens), "--output-tokens", str(output_tokens)]
    alone = bench(url, [*SOLO, *sizes], directory)
    ttft_s = TTFT_SLOWDOWN * alone["ttft_s"]["p50"]
    tbt_s = TBT_SLOWDOWN * alone["tbt_s"]["p50"]
    return ["--slo-ttft", f"{ttft_s:.4f}", "--slo-tbt", f"{tbt_s:.4f}"]
