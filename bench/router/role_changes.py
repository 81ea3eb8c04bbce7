"""`python -m bench.router.role_changes`: how soon a worker serves the other phase too.

A cluster of one prompt and one token worker, with the tiny model. Bursts of questions come while an
answer is decoded, so that each borrows the token worker amid its work, and the next one comes when
it has returned. Each change is told by the router's histogram. Prints a line a burst; the last line
is one JSON object.
"""

import argparse
import json
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from splitwise_core.tiny_tasks import lookup
from tests.support.cluster import Cluster, Metrics, running, write_cluster
from tests.support.ports import free_port

TOGETHER: Final = 6
RETURNS_WITHIN_S: Final = 30.0
CHANGE: Final = "splitwise_request_role_change_seconds"


def ask(cluster_url: str, prompts: list[str], max_tokens: int, **more: object) -> list[str]:
    """The answers to prompts that come in one request."""
    asked = {"model": "tiny", "temperature": 0, "max_tokens": max_tokens, "prompt": prompts}
    answer = httpx.post(f"{cluster_url}/v1/completions", json=asked | more, timeout=120)
    answer.raise_for_status()
    choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
    return [choice["text"] for choice in choices]


def wait_for_return(cluster: Cluster) -> None:
    """Comes back when no worker is borrowed any more."""
    (token,) = cluster.pods("token")
    give_up_s = time.monotonic() + RETURNS_WITHIN_S
    while cluster.metrics(token).value("splitwise_worker_borrowed_workers"):
        if time.monotonic() > give_up_s:
            raise SystemExit(f"the worker has not returned within {RETURNS_WITHIN_S:g} s")
        time.sleep(0.1)


def changes(told: Metrics) -> tuple[float, float]:
    """How many there were so far, and their seconds together."""
    return told.value(f"{CHANGE}_count"), told.value(f"{CHANGE}_sum")


def measure(cluster: Cluster, bursts: int) -> dict[str, object]:
    """Seconds of each change, and answers that were lost or are others than of a calm cluster."""
    draw, url = random.Random(7), cluster.url
    (router,) = cluster.pods("router")
    seconds: list[float] = []
    wrong = 0
    with ThreadPoolExecutor(1) as beside:
        for number in range(bursts):
            questions = [lookup(draw, pairs=30) for _ in range(TOGETHER)]
            most = max(question.max_tokens for question in questions)
            prompts = [question.prompt for question in questions]
            before = changes(cluster.metrics(router))
            long = beside.submit(ask, url, prompts[:1], 200, ignore_eos=True)
            together = ask(url, prompts, most)
            long.result()
            after = changes(cluster.metrics(router))
            wait_for_return(cluster)
            alone = [text for prompt in prompts for text in ask(url, [prompt], most)]
            wait_for_return(cluster)
            wrong += sum(one != other for one, other in zip(together, alone, strict=True))
            if after[0] == before[0] + 1:
                seconds.append(after[1] - before[1])
                print(f"burst {number + 1}: {1000 * seconds[-1]:.1f} ms", flush=True)
    return {
        "bench": "role changes",
        "bursts": bursts,
        "changes": len(seconds),
        "median_s": round(median(seconds), 4),
        "most_s": round(max(seconds), 4),
        "other_answers": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--model", type=Path, default=Path(".cache/models/tiny"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        pools = [{"name": role, "role": role, "kvMemory": "128Mi"} for role in ("prompt", "token")]
        scheduling = {"borrowing": True, "overflowTokens": 0}
        file = write_cluster(place, asked.model.absolute(), pools=pools, scheduling=scheduling)
        with running(file, place / "state", "--port", str(free_port())) as cluster:
            print(json.dumps(measure(cluster, asked.bursts)))


if __name__ == "__main__":
    main()
