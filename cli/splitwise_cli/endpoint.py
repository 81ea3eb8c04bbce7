"""The router that a command speaks to: the one at --url, or that of the cluster running here."""

from pathlib import Path
from typing import Any, Final

import httpx

from splitwise_cli.runner.state import StateDir, default_state_dir
from splitwise_core.errors import UserError

CONNECT_S: Final = 5.0


def open_router(url: str | None, state_dir: Path | None, timeout_s: float) -> httpx.Client:
    """A client of the router, to be closed. Raises UserError when there is none, or no such URL."""
    if url is None:
        state = StateDir((state_dir or default_state_dir()).absolute())
        url = str(state.running()["endpoint"])
    try:
        return httpx.Client(
            base_url=url.rstrip("/").removesuffix("/v1"),
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
        )
    except httpx.InvalidURL as error:
        fix = "write it as http://HOST:PORT"
        raise UserError("not-running", where="--url", wrong=f"{url}: {error}", fix=fix) from error


def served_model(router: httpx.Client) -> dict[str, Any]:
    """The model that the router serves, as it tells it: its `id`, and what else it says of it.

    Raises UserError when no router answers.
    """
    try:
        card = router.get("/v1/models").raise_for_status().json()["data"][0]
        return {**card, "id": str(card["id"])}
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            "not-running",
            where=str(router.base_url),
            wrong=f"no router answers there: {error}",
            fix="start a cluster with `splitwise up`, or name another --url",
        ) from error
