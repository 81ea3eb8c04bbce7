"""Who is asked for a reading: a router, the cluster on this machine, or one on Kubernetes.

Each question has a deadline. What cannot be read is raised as `Unseen`, with why.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from splitwise_cli.endpoint import CONNECT_S, open_router
from splitwise_cli.runner.state import StateDir, default_state_dir
from splitwise_cli.top.readings import Reading, RouterReading, Wanted, router_reading
from splitwise_core.errors import UserError
from splitwise_core.labels import ROUTER

ANSWER_S: Final = 5.0
TIMEOUTS_S: Final = (CONNECT_S, ANSWER_S)
"""To connect, and for an answer."""

MOST_BYTES: Final = 1 << 20

Source = Callable[[], Reading]


class Unseen(Exception):
    """The cluster does not answer; the text says what was tried."""


def at_url(url: str) -> Source:
    """A router's own view. Raises UserError for what is no URL."""
    router = open_router(url, None, ANSWER_S)

    def read() -> Reading:
        return Reading(str(router.base_url).rstrip("/"), {url: _ask(router)})

    return read


def on_this_machine(state_dir: Path | None) -> Source:
    """The cluster of a state directory: all of its routers, and the pods that there should be."""
    state = StateDir((state_dir or default_state_dir()).absolute())

    def read() -> Reading:
        try:
            status = state.running()
        except UserError as error:
            raise Unseen(error.wrong) from error
        urls = {pod["name"]: _router_url(pod) for pod in status["pods"] if pod["role"] == ROUTER}
        routers, missing = each({name: partial(_ask_at, url) for name, url in urls.items()})
        pods = [pod["pool"] for pod in status["pods"] if pod["role"] != ROUTER]
        wanted = {pool: Wanted(pods.count(pool)) for pool in pods}
        return some(Reading(str(status["cluster"]), routers, wanted, missing))

    return read


def _router_url(pod: Mapping[str, Any]) -> str:
    """Where a router of this machine listens: at the address of its metrics."""
    return str(pod["metrics"][0]).removesuffix("/metrics")


def each(
    routers: Mapping[str, Callable[[], RouterReading]],
) -> tuple[dict[str, RouterReading], dict[str, str]]:
    """What the routers say, and why those that say nothing do not, by name."""
    found: dict[str, RouterReading] = {}
    missing: dict[str, str] = {}
    for name, ask in routers.items():
        try:
            found[name] = ask()
        except Unseen as why:
            missing[name] = str(why)
    return found, missing


def _ask_at(url: str) -> RouterReading:
    with open_router(url, None, ANSWER_S) as router:
        return _ask(router)


def some(reading: Reading) -> Reading:
    """The reading, if any router has answered. Raises Unseen."""
    if not reading.routers:
        told = "; ".join(f"{name}: {why}" for name, why in reading.missing.items())
        raise Unseen(told or "there is no router")
    return reading


def _ask(router: httpx.Client) -> RouterReading:
    try:
        return reading_of(router.get("/load").raise_for_status().content)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        hint = " (a router of an older version?)" if status == 404 else ""
        raise Unseen(f"{error.request.url} answers {status}{hint}") from error
    except httpx.HTTPError as error:
        raise Unseen(f"{router.base_url} does not answer: {error}") from error


def reading_of(body: bytes) -> RouterReading:
    """A router's answer. Raises Unseen where it is none."""
    if len(body) > MOST_BYTES:
        raise Unseen(f"the answer has {len(body)} bytes: that is no router's")
    try:
        return router_reading(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise Unseen(f"what answers is no router: {error}") from error
