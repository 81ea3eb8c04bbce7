"""Generation over HTTP: reads a request, runs its choices, and answers whole or as a stream."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from splitwise_core.metrics.router import HTTP_REQUESTS, REQUEST_TIMEOUT
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Tracing
from splitwise_router.answer import Answer, Asked, Choice
from splitwise_router.api.errors import ApiError
from splitwise_router.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    parse_chat,
    parse_completion,
)
from splitwise_router.api.responses import error_event
from splitwise_router.caller import PRIORITY_HEADER, Caller, caller_of
from splitwise_router.choice import Clock
from splitwise_router.dispatch import Dispatcher
from splitwise_router.exchange import ClientGone, Exchange
from splitwise_router.generation import Generation
from splitwise_router.goodput import Goodput, Objectives
from splitwise_router.request_log import RequestLog
from splitwise_router.request_trace import begin
from splitwise_router.text.stream import TextStream
from splitwise_router.text.tokenizer import Tokenizer

MAX_CHOICES: Final = 128
"""Choices of one HTTP request, `n` for each prompt: more belong into several requests."""

READ_ASIDE_BYTES: Final = 4096
"""Longer bodies are read in a thread: a tokenizer takes 0.5 us a byte, in which nothing streams."""

COMPLETION_MAX_TOKENS: Final = 16
"""What /v1/completions generates when it is not told, as at OpenAI."""

CLIENT_GONE_STATUS: Final = 499
"""Counted, never sent: the client hung up before the answer had begun."""

TURNED_AWAY_STATUS: Final = 429
"""For want of capacity: the client has done nothing wrong."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one HTTP request may cost."""

    body_bytes: int
    request_timeout_s: float


class Service:
    """The two endpoints that generate."""

    def __init__(
        self,
        model: str,
        tokenizer: Tokenizer,
        dispatcher: Dispatcher,
        limits: Limits,
        telemetry: Telemetry,
        log: logging.Logger,
        tracing: Tracing,
        request_log: RequestLog,
        objectives: Objectives | None = None,
    ) -> None:
        self._model = model
        self._created = int(time.time())
        self._tokenizer = tokenizer
        self._dispatcher = dispatcher
        self._limits = limits
        self._telemetry = telemetry
        self._goodput = Goodput(telemetry, objectives)
        self._clock = Clock(telemetry, self._goodput, request_log)
        telemetry.gauge(REQUEST_TIMEOUT).set(limits.request_timeout_s)
        self._log, self._tracing = log, tracing

    def model_card(self) -> dict[str, object]:
        """The served model as GET /v1/models lists it."""
        return {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "splitwise",
            "max_model_len": self._tokenizer.max_model_len,
        }

    def check_model(self, name: str) -> None:
        """Raises ApiError 404 unless `name` is the served model."""
        if name != self._model:
            raise ApiError(
                404,
                f"The model {name!r} does not exist here. Ask for {self._model!r}.",
                param="model",
                code="model_not_found",
            )

    async def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        await self._serve(exchange, "chat", self._chat)

    async def completions(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        await self._serve(exchange, "completions", self._completions)

    async def _serve(
        self, exchange: Exchange, endpoint: str, read: Callable[[bytes, str | None], Asked]
    ) -> None:
        """One exchange from its body to its end; every way out is an answer or a lost client."""
        exchange.trace = begin(self._tracing, exchange.header("traceparent"))
        try:
            async with asyncio.timeout(self._limits.request_timeout_s) as patience:
                body = await exchange.body(self._limits.body_bytes)
                kind = exchange.header("content-type")
                aside = len(body) > READ_ASIDE_BYTES
                asked = await asyncio.to_thread(read, body, kind) if aside else read(body, kind)
                priority = exchange.header(PRIORITY_HEADER)
                asked_by = caller_of(exchange.header("authorization"), priority)
                answer = self._answer(exchange, asked, asked_by)
                await _while_listening(exchange, answer.send, patience)
        except ClientGone:
            pass
        except ApiError as error:
            await self._fail(exchange, error)
        except TimeoutError:
            await self._fail(exchange, self._too_late())
        except Exception:
            fields = {"request_id": exchange.request_id, **exchange.trace.fields}
            self._log.exception("a bug", extra={"fields": fields})
            await self._fail(exchange, _bug(exchange.request_id))
        status = exchange.status or CLIENT_GONE_STATUS
        self._telemetry.counter(HTTP_REQUESTS, endpoint=endpoint, status=str(status)).inc()
        exchange.end_trace(endpoint, status)
        self._tracing.decide_ahead()

    async def _fail(self, exchange: Exchange, error: ApiError) -> None:
        """Tells the client: with a status before the answer began, with an event after."""
        if error.status >= 500 or error.status == TURNED_AWAY_STATUS:
            self._goodput.failed()
        if exchange.status == 0:
            await exchange.answer_error(error)
        else:
            await exchange.write(error_event(error), last=True)

    def _chat(self, body: bytes, content_type: str | None) -> Asked:
        request = parse_chat(body, content_type)
        self.check_model(request.model)
        self._check_named_tokens(request)
        tokens = self._tokenizer.chat(request.messages)
        self._check_prompt(tokens, "messages")
        return Asked("chat", request, [tokens], self._max_tokens(request, tokens, None))

    def _completions(self, body: bytes, content_type: str | None) -> Asked:
        request = parse_completion(body, content_type)
        self.check_model(request.model)
        self._check_named_tokens(request)
        prompts = [
            self._tokenizer.encode(prompt, True) if isinstance(prompt, str) else prompt
            for prompt in request.prompts
        ]
        longest = max(prompts, key=len)
        for prompt in prompts:
            self._check_prompt(prompt, "prompt")
        return Asked(
            "completion",
            request,
            prompts,
            self._max_tokens(request, longest, COMPLETION_MAX_TOKENS),
        )

    def _check_named_tokens(self, request: ChatCompletionRequest | CompletionRequest) -> None:
        for field, largest in request.named_tokens.items():
            self._check_token(largest, field)

    def _check_prompt(self, tokens: Sequence[int], field: str) -> None:
        if not tokens:
            wrong = f"{field}: there are no tokens in it. Send at least one."
            raise ApiError(400, wrong, param=field, code="invalid_value")
        self._check_token(max(tokens), field)

    def _check_token(self, token: int, field: str) -> None:
        if token >= self._tokenizer.vocab_size:
            raise ApiError(
                400,
                f"{field}: token {token} is not in the vocabulary. Token ids are below "
                f"{self._tokenizer.vocab_size}.",
                param=field,
                code="invalid_token",
            )

    def _max_tokens(
        self,
        request: ChatCompletionRequest | CompletionRequest,
        tokens: Sequence[int],
        default: int | None,
    ) -> int:
        """Tokens to generate: what was asked for, or the default as far as there is room."""
        context = self._tokenizer.max_model_len
        room = context - len(tokens)
        if room < 1:
            field = "messages" if isinstance(request, ChatCompletionRequest) else "prompt"
            raise ApiError(
                400,
                f"{field}: {len(tokens)} tokens, and at least one of the answer, must fit the "
                f"context of {context} tokens. Shorten it.",
                param=field,
                code="context_length_exceeded",
            )
        wanted = request.longest
        if wanted is None:
            return room if default is None else min(default, room)
        if wanted > room:
            field = request.longest_field
            raise ApiError(
                400,
                f"{field}: {wanted} tokens behind a prompt of {len(tokens)} exceed the context of "
                f"{context} tokens. Ask for at most {room}, or leave it out.",
                param=field,
                code="context_length_exceeded",
            )
        return wanted

    def _answer(self, exchange: Exchange, asked: Asked, asked_by: Caller) -> Answer:
        """The answer to come, with a generation for each choice."""
        request = asked.request
        count = len(asked.prompts) * request.n
        if count > MAX_CHOICES:
            raise ApiError(
                400,
                f"prompt: {len(asked.prompts)} prompts with n={request.n} are {count} choices; at "
                f"most {MAX_CHOICES} fit in one request. Send several.",
                param="prompt",
                code="invalid_value",
            )
        deadline_s = time.time() + self._limits.request_timeout_s
        choices: list[Choice] = []
        for prompt in asked.prompts:
            self._clock.asked(len(prompt))
            for number in range(request.n):
                seed = (asked.seed + number) % 2**64
                sampling = request.sampling(seed=seed, max_tokens=asked.max_tokens)
                generation = Generation(exchange.request_id, prompt, sampling, deadline_s, asked_by)
                generation.trace = exchange.trace_of(len(choices))
                text = TextStream(self._tokenizer, request.stops)
                choices.append(Choice(len(choices), generation, text))
        return Answer(
            exchange, asked, choices, self._model, self._tokenizer, self._dispatcher, self._clock
        )

    def _too_late(self) -> ApiError:
        return ApiError(
            504,
            f"The request did not end within {self._limits.request_timeout_s:g} s. Ask for fewer "
            "tokens, or raise router.requestTimeoutSeconds of the cluster.",
            kind="server_error",
            code="deadline_exceeded",
        )


async def _while_listening(
    exchange: Exchange, work: Callable[[], Awaitable[None]], patience: asyncio.Timeout
) -> None:
    """Does `work`, and stops it at once when the client hangs up: then raises ClientGone."""
    loop = asyncio.get_running_loop()
    working = True

    def hang_up(listener: asyncio.Task[None]) -> None:
        if working and not listener.cancelled():
            patience.reschedule(loop.time())

    listener = asyncio.create_task(exchange.until_gone())
    listener.add_done_callback(hang_up)
    try:
        await work()
    except asyncio.CancelledError:
        if listener.done():
            raise ClientGone from None
        raise
    finally:
        working = False
        listener.cancel()


def _bug(request_id: str) -> ApiError:
    return ApiError(
        500,
        f"The router failed on this request, which is its fault. Report it with {request_id}.",
        kind="server_error",
        code="internal_error",
    )
