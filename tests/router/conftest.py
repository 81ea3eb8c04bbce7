"""Routers and echo workers for tests, and the answers that are right."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from splitwise_core.rpc.worker_pb2 import FromWorker, Load, WorkerInfo
from splitwise_router.fleet import Fleet
from splitwise_router.session import Served, Session
from tests.support.router import Stack, Worker, stack
from tests.support.tokenizers import write_tokenizer

Start = Callable[..., AbstractContextManager[Stack]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer and a chat template, and no weights."""
    directory = tmp_path_factory.mktemp("model")
    write_tokenizer(directory)
    return directory


@pytest.fixture
def start(tmp_path: Path, model: Path) -> Start:
    """`with start([workers], option=value) as stack:` for tests that break things."""
    return partial(stack, tmp_path, model)


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One prompt and one token worker that no test harms."""
    workers = [Worker("p0", "prompt"), Worker("t0", "token")]
    with stack(tmp_path_factory.mktemp("shared"), model, workers, max_body=65536) as running:
        yield running


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """A fleet without a network: sessions are open, to workers whose revision is their pool."""

    async def run(session: Session) -> None:
        info = WorkerInfo(
            model="echo",
            revision=session.endpoint.pool,
            tokenizer_fingerprint=b"tokenizer",
            num_blocks=9,
            max_sequences=9,
            block_tokens=16,
        )
        load = Load(ready=True, free_blocks=9, free_sequences=9)
        session._receive(FromWorker(info=info, load=load))
        await asyncio.Event().wait()

    monkeypatch.setattr(Session, "run", run)
    made = Fleet(Served("echo", b"tokenizer"), 1000, logging.getLogger("test"))
    yield made
    await made.close()
