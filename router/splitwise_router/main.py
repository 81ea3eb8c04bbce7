"""`splitwise-router`: reads the command line once, serves until SIGTERM, and drains."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from splitwise_core.arguments import address
from splitwise_core.errors import UserError
from splitwise_core.logs import configure, count_drops
from splitwise_core.metric import Component
from splitwise_core.metrics.process import LOG_DROPS
from splitwise_core.metrics.router import DISCOVERY_FAILURES, KEY_FAILURES
from splitwise_core.policy.admission import MAX_QUEUE_S
from splitwise_core.policy.mixing import OVERFLOW_TOKENS, Disaggregation, Mixing
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Tracing, open_tracing
from splitwise_router import kubernetes_api
from splitwise_router.admission import Admission
from splitwise_router.app import App
from splitwise_router.discovery import SliceQuery, read_source, watch_workers
from splitwise_router.dispatch import Dispatcher
from splitwise_router.endpoint_slices import SliceWatch
from splitwise_router.fleet import Fleet
from splitwise_router.goodput import Objectives
from splitwise_router.minting import minting
from splitwise_router.overview import Overview
from splitwise_router.request_log import RequestLog, RequestLogging
from splitwise_router.service import Limits, Service
from splitwise_router.session import Served
from splitwise_router.text.tokenizer import Tokenizer

LINGER_S: Final = 5.0
"""After SIGTERM, Kubernetes' Services still send connections for a moment: they are answered."""

KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 2048


class _Server(uvicorn.Server):
    """A server that leaves signals to `main`, so that SIGTERM ends in exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a router; 0 after SIGTERM, 2 for something the reader can fix."""
    asked = _parser().parse_args(arguments)
    asked.environment = dict(os.environ)
    try:
        uvloop.run(_serve(asked, configure("router", asked.environment)))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201 (for people, several lines)
        return 2
    return 0


async def _serve(asked: argparse.Namespace, log: logging.Logger) -> None:
    listener = _listen(asked.listen)
    tokenizer = Tokenizer.load(asked.model, asked.max_length)
    linger_s = LINGER_S if await _is_in_kubernetes(asked) else 0.0
    telemetry = Telemetry(Component.ROUTER)
    tracing = _watched(asked, telemetry)
    mint = minting(asked.capability_key, telemetry.counter(KEY_FAILURES).inc)
    served = Served(asked.model_name, tokenizer.fingerprint)
    longest_s = asked.max_queue_seconds
    wake_s = asked.wake_seconds
    mixing = Mixing(asked.borrowing == "on", Disaggregation(asked.disaggregation))
    probe_s = asked.probe_seconds
    request_log = RequestLog(log, RequestLogging(asked.request_log))
    placed = request_log.placed if request_log.has_placements else None
    overflow_tokens = asked.overflow_tokens
    fleet = Fleet(served, overflow_tokens, log, probe_s, longest_s, wake_s > 0, mixing, placed)
    admission = Admission(fleet, asked.max_queued, longest_s, telemetry, mint, wake_s)
    dispatcher = Dispatcher(admission, asked.retries, telemetry, log)
    limits = Limits(body_bytes=asked.max_body, request_timeout_s=asked.request_timeout)
    overview = Overview(asked.model_name, fleet, telemetry, admission.waiting)
    status_page = asked.status_page == "on"
    objectives = _objectives(asked)
    watched = log, tracing, request_log, objectives
    service = Service(asked.model_name, tokenizer, dispatcher, limits, telemetry, *watched)
    app = App(service, fleet, telemetry, admission.waiting, overview, status_page)
    chores = [
        asyncio.create_task(_discover(asked, fleet, telemetry, log)),
        asyncio.create_task(fleet.links.keep_measured(lambda: fleet.sessions)),
    ]
    server = _server(app, max(1, asked.drain_seconds - int(linger_s)))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        app.draining = True
        loop.call_later(linger_s, setattr, server, "should_exit", True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("serving", extra={"fields": {"listen": asked.listen, "model": asked.model_name}})
    try:
        await server.serve(sockets=[listener])
    finally:
        for chore in chores:
            chore.cancel()
        await asyncio.wait(chores)
        await fleet.close()
        tracing.close()
    log.info("stopped")


def _watched(asked: argparse.Namespace, telemetry: Telemetry) -> Tracing:
    """Counts what the log drops; what requests are traced with."""
    count_drops(telemetry.counter(LOG_DROPS).inc)
    place = {"service.instance.id": asked.environment.get("POD_NAME", asked.listen)}
    return open_tracing(Component.ROUTER, asked.environment, telemetry, place)


def _objectives(asked: argparse.Namespace) -> Objectives | None:
    ttft_s, tbt_s = asked.slo_ttft_seconds, asked.slo_tbt_seconds
    if ttft_s is None or tbt_s is None:
        return None
    return Objectives(ttft_s, tbt_s, asked.slo_percentile / 100)


def _server(app: App, drain_s: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=drain_s,
        )
    )


async def _is_in_kubernetes(asked: argparse.Namespace) -> bool:
    """Whether a Service stands before us. Raises UserError for what is an error at the start."""
    if not isinstance(read_source(asked.endpoints), SliceQuery):
        return False
    await (await kubernetes_api.connect(asked.environment.get("KUBECONFIG"))).close()
    return True


async def _discover(
    asked: argparse.Namespace, fleet: Fleet, telemetry: Telemetry, log: logging.Logger
) -> None:
    """Keeps the fleet's list of workers up to date, for ever."""

    def failed(reason: str) -> None:
        telemetry.counter(DISCOVERY_FAILURES, reason=reason).inc()

    async def watch_slices(query: SliceQuery) -> None:
        try:
            api = await kubernetes_api.connect(asked.environment.get("KUBECONFIG"))
        except UserError as error:  # the file has changed since the start
            log.error("the list of workers is kept as it was", extra={"fields": {"why": error}})
            return
        try:
            await SliceWatch(api, query, fleet.apply, failed, log).run()
        finally:
            await api.close()

    await watch_workers(asked.endpoints, fleet.apply, watch_slices, log)


def _listen(address: str) -> socket.socket:
    """A bound socket. Raises UserError when the address is taken or is not ours."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            "port-taken",
            where=f"--listen {address}",
            wrong=f"the router cannot listen there: {error.strerror}",
            fix="stop the process that listens there, or choose another port",
        ) from error
    return listener


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= {least}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        if (seconds := float(text)) > 0:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _percentile(text: str) -> int:
    if text.isdigit() and 0 < int(text) < 100:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 99")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="splitwise-router", description="The OpenAI HTTP API in front of Splitwise workers."
    )
    add = parser.add_argument
    one_or_more, any_count = _at_least(1), _at_least(0)
    add("--listen", type=address, required=True, metavar="HOST:PORT")
    add(
        "--endpoints",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON: which workers there are, or how Kubernetes is asked",
    )
    add("--model", type=Path, required=True, metavar="DIR", help="tokenizer and chat template")
    add("--model-name", required=True, help="what clients call the model")
    add("--max-length", type=one_or_more, help="longest context; default: what the model says")
    spills = "queue that spills to mixed pools"
    add("--overflow-tokens", type=any_count, default=OVERFLOW_TOKENS, help=spills)
    add("--borrowing", default="on", choices=["on", "off"], help="of workers of the other pool")
    modes = [mode.value for mode in Disaggregation]
    add("--disaggregation", default=modes[0], choices=modes, help="of a request's two phases")
    add("--request-timeout", type=float, default=600.0, metavar="SECONDS")
    add("--max-queued", type=any_count, default=256, help="requests that may wait for capacity")
    add("--max-queue-seconds", type=_seconds, default=MAX_QUEUE_S, help="that one may wait")
    add(
        "--wake-seconds",
        type=float,
        default=0.0,
        help="that one may wait for the first workers, where they come when somebody asks",
    )
    add("--max-body", type=one_or_more, default=2**21, metavar="BYTES")
    add("--drain-seconds", type=one_or_more, default=20, help="for running requests at the end")
    add(
        "--capability-key",
        type=Path,
        metavar="FILE",
        help="keys that transfers are allowed with, one a line in hex, newest first; without it "
        "sidecars must ask for no capability",
    )
    add("--probe-seconds", type=one_or_more, default=60, help="between measurements of a link")
    add("--retries", type=any_count, default=2, help="new attempts when a worker is lost")
    logged = [what.value for what in RequestLogging]
    add("--request-log", default=logged[0], choices=logged, help="lines of the log on requests")
    add("--status-page", default="off", choices=["on", "off"], help="at /status, for browsers")
    _add_objectives(parser)
    return parser


def _add_objectives(parser: argparse.ArgumentParser) -> None:
    """What requests are counted by; nothing is decided by it."""
    add = parser.add_argument
    add(
        "--slo-ttft-seconds", type=_seconds, help="to the first token, for requests to count as met"
    )
    add("--slo-tbt-seconds", type=_seconds, help="between tokens; both are given, or none")
    add(
        "--slo-percentile", type=_percentile, default=90, help="part of requests that are to be met"
    )


if __name__ == "__main__":
    sys.exit(main())
