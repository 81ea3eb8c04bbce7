"""The processes that are measured: a router, a prompt and a token worker, a sidecar beside each."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.watching.switch import programs
from tests.support.house import House, house
from tests.support.otlp import Collector, collecting

MODEL = Path(__file__).parents[2] / ".cache" / "models" / "tiny"
ONE_THREAD = {"SPLITWISE_CPU_MILLIS": "1000"}
"""Of each worker: threads that wait for each other's turns would be most of what is seen."""


@contextmanager
def processes(listener: str) -> Iterator[tuple[House, list[Path], Collector]]:
    """A set that is ready, and traced at the default sampling to a collector of its own.

    With the socket of each, where `listen` of the module `listener` listens.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collector = stack.enter_context(collecting())
        traced = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        }
        real = programs(directory, listener)
        built = stack.enter_context(house(directory, MODEL, None, ONE_THREAD | traced, real))
        built.start()
        yield built, [directory / str(process.pid) for process in built.processes], collector
