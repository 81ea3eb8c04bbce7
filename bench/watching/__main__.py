"""`python -m bench.watching`: what metrics and traces cost: processes that have both, and neither.

A set of real processes (a router, a prompt and a token worker, a sidecar beside each) has metrics,
and traces at the default sampling. Both are switched off and on while it runs (`switch`). Each two
neighbouring blocks of the same load are a pair (`pairs`): of streams, for the CPU time of all
processes a token, and of single requests, for the time to the first token. What is printed is the
median of the pairs' differences and its 95 % confidence interval (`paired`). With `--control`
nothing is switched off: what is found then is noise.

Then a worker is scraped, and /metrics is weighed after 100,000 requests (`sizes`). Prints a table;
the last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from http.client import HTTPConnection

from bench.watching.pairs import Bench, cpu_found, ttft_found
from bench.watching.processes import processes
from bench.watching.sizes import router_bytes, worker_bytes
from bench.watching.switch import Switches
from tests.support.house import House

SCRAPES = 50
SIZED_REQUESTS = 100_000


def scrape_s(built: House) -> list[float]:
    """Durations of scrapes of a worker."""
    took = []
    for _ in range(SCRAPES):
        scraper = HTTPConnection("127.0.0.1", built.ports["token-status"])
        began_s = time.perf_counter()
        scraper.request("GET", "/metrics")
        page = scraper.getresponse().read()
        took.append(time.perf_counter() - began_s)
        scraper.close()
        assert b"splitwise_worker_step_seconds" in page, page[:200]
    return took


def measured(cpu_pairs: int, ttft_pairs: int, is_control: bool) -> dict[str, float]:
    """What is measured on real processes."""
    with processes(Switches.__module__) as (built, sockets, collector):
        switches = Switches(sockets)
        bench = Bench(built, switches, is_control)
        bench.check()
        cpu = cpu_found(bench, cpu_pairs) if cpu_pairs else {}
        ttft = ttft_found(bench, ttft_pairs) if ttft_pairs else {}
        bench.switch(True)
        scrapes = scrape_s(built)
        switches.close()
        spans = len(collector.spans)
    assert spans > 0, "nothing was traced"
    return {
        **cpu,
        **ttft,
        "worker_scrape_ms": 1e3 * statistics.median(scrapes),
        "worker_scrape_ms_most": 1e3 * max(scrapes),
        "spans": float(spans),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=__doc__)
    parser.add_argument("--cpu-pairs", type=int, default=80, help="pairs of streams; 0: none")
    parser.add_argument("--ttft-pairs", type=int, default=6000, help="of single requests; 0: none")
    parser.add_argument("--control", action="store_true", help="never switch watching off")
    asked = parser.parse_args()
    found = measured(asked.cpu_pairs, asked.ttft_pairs, asked.control)
    for of, sizes in (
        ("router", router_bytes(SIZED_REQUESTS)),
        ("worker", worker_bytes(SIZED_REQUESTS)),
    ):
        found |= {f"{of}_metrics_{name}_bytes": float(size) for name, size in sizes.items()}
    for label, value in found.items():
        print(f"{label:37} {value:12.2f}")
    print(json.dumps({"bench": "watching"} | vars(asked) | found))


if __name__ == "__main__":
    main()
