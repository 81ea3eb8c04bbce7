"""Routers and echo workers for tests, and the answers that are right."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

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
