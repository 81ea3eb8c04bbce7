"""A burst of prompts on real workers: the token worker is borrowed, is right, and returns."""

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from splitwise_core.tiny_tasks import Question, lookup
from tests.support.cluster import (
    Cluster,
    all_blocks_are_free,
    eventually,
    running,
    splitwise,
    write_cluster,
)
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

RETURNS_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def lending(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A worker of each phase; whatever waits for the prompt worker borrows the other one."""
    directory = tmp_path_factory.mktemp("lending")
    pools = [{"name": role, "role": role, "kvMemory": "128Mi"} for role in ("prompt", "token")]
    scheduling = {"borrowing": True, "overflowTokens": 0}
    file = write_cluster(directory, tiny_model, pools=pools, scheduling=scheduling)
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        yield cluster


def ask_together(cluster: Cluster, questions: list[Question]) -> list[str]:
    """The answers to questions that come in one request, all at once."""
    most = max(question.max_tokens for question in questions)
    asked = {"model": "tiny", "temperature": 0, "max_tokens": most}
    asked["prompt"] = [question.prompt for question in questions]
    answer = httpx.post(f"{cluster.url}/v1/completions", json=asked, timeout=120)
    assert answer.status_code == 200, answer.text
    choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
    return [choice["text"].strip() for choice in choices]


def test_a_burst_borrows_the_token_worker_and_it_returns(lending: Cluster) -> None:
    draw = random.Random(5)
    questions = [lookup(draw, pairs=30) for _ in range(16)]
    answers = ask_together(lending, questions)
    (token,) = lending.pods("token")

    def value(name: str, **labels: str) -> float:
        return lending.metrics(token).value(name, **labels)

    assert value("splitwise_worker_loans_total") == 1, "one burst is one loan"
    assert value("splitwise_worker_computed_tokens_total", kind="prompt") > 0
    (router,) = lending.pods("router")
    told = lending.metrics(router)
    assert told.value("splitwise_router_placements_total", reason="borrowed-token-worker") > 0
    assert told.value("splitwise_request_role_change_seconds_count") == 1
    eventually(
        lambda: value("splitwise_worker_borrowed_workers") == 0,
        RETURNS_WITHIN_S,
        lending.logs,
    )
    eventually(
        lambda: {pod["borrowed_s"] for pod in lending.pods()} == {None},
        RETURNS_WITHIN_S,
        lambda: splitwise("status", "--state-dir", str(lending.state_dir)).stdout,
    )
    alone = [ask_together(lending, [question]) for question in questions]
    assert [answers] == [[answer for (answer,) in alone]]
    assert value("splitwise_worker_loans_total") == 1, "who comes alone borrows nobody"
    all_blocks_are_free(lending)
