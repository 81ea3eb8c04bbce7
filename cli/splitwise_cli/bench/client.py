"""One request over HTTP from its sending to its end: whatever happens, an answer comes of it.

aiohttp parses HTTP in C: it was measured to take 100,000 events a second of its CPU time with their
JSON, where httpx, which the other commands use, took 20,000.
"""

import asyncio
import json
import time
from typing import Final

import aiohttp

from splitwise_cli.bench.answers import Answer, Outcome, message_of
from splitwise_cli.bench.events import EventReader, NoEvent

IDLE_S: Final = 2.0
"""A connection is not used again after so long: some servers close theirs after 5 s, and a request
sent into that moment would count as lost."""

MOST_ERROR_BYTES: Final = 1 << 16
_JSON: Final = {"content-type": "application/json"}


class Client:
    """Sends to the completions of one server. To be used as a context."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = f"{url}/v1/completions"
        self._timeout_s = timeout_s

    async def __aenter__(self) -> "Client":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=1 << 18,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, answer: Answer) -> None:
        """Sends what is asked and fills in the answer. Raises nothing but CancelledError."""
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(answer, began_s)
        except TimeoutError:
            answer.end(Outcome.LOST, f"no end within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            answer.end(Outcome.LOST, f"{type(error).__name__}: {error}")
        except NoEvent as error:
            answer.end(Outcome.LOST, str(error))
        finally:
            answer.e2e_s = time.perf_counter() - began_s

    async def _exchange(self, answer: Answer, began_s: float) -> None:
        body = answer.asked.body
        async with self._session.post(self._url, data=body, headers=_JSON) as response:
            if response.status != 200:
                answer.retry_after = "retry-after" in response.headers
                said = await response.content.read(MOST_ERROR_BYTES)
                kind = Outcome.REJECTED if response.status == 429 else Outcome.FAILED
                answer.end(kind, f"{response.status}: {_message(said)}")
                return
            events = EventReader()
            async for piece in response.content.iter_any():
                now_s = time.perf_counter() - began_s
                for event in events.feed(piece):
                    answer.take(event, now_s)
            if events.done:
                answer.finish()
            else:  # an event may have told of an error, and then this adds nothing
                answer.end(Outcome.LOST, "the stream ended before its last event")


def _message(said: bytes) -> str:
    """What an error's body says."""
    try:
        return message_of(json.loads(said))
    except (ValueError, RecursionError):
        return said.decode("utf-8", "replace")
