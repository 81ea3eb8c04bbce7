"""The open streams of routers: what each still has to be told, between the engine and gRPC."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.outbox import Updates

log = logging.getLogger("splitwise.worker.sessions")

HEARTBEAT_S: Final = 1.0
"""A router hears the load at least this often, so that silence means trouble."""

MAX_UNREAD: Final = 1 << 16
"""Updates that wait for a router that does not read; past it the router is given up. A router that
reads is far from it: the updates of a hundred steps of 64 sequences are a tenth of it."""


MAX_LINKS: Final = 1024
"""Peers whose links are remembered for the next router; as many as the sidecar remembers."""


@dataclass(slots=True)
class OpenSession:
    """One router. Steps that end while a message is being written go out together in the next."""

    number: int
    updates: list[worker_pb2.Update] = field(default_factory=list)
    links: dict[str, kv_pb2.Link] = field(default_factory=dict)  # by peer: the last word counts
    news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False
    listening: asyncio.Task[None] | None = None
    """What hears the router; it ends the router's sequences when it ends."""

    async def wait(self) -> None:
        """Returns when there is news, and at least every HEARTBEAT_S."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.news.wait(), HEARTBEAT_S)
        self.news.clear()

    def close(self) -> None:
        """The router has said all it will."""
        self.closed = True
        self.news.set()

    def tell(self, updates: Sequence[worker_pb2.Update]) -> None:
        """Adds to what the router will read; one that does not read is heard no more."""
        if self.closed:
            return
        self.updates.extend(updates)
        if len(self.updates) > MAX_UNREAD:
            log.warning("a router does not read", extra={"fields": {"session": self.number}})
            self.updates = []
            self.close()
            if self.listening is not None:
                self.listening.cancel()


class Sessions:
    """All routers of this worker. Lives in the event loop's thread."""

    def __init__(self) -> None:
        self.load = worker_pb2.Load()
        self._links: OrderedDict[str, kv_pb2.Link] = OrderedDict()
        self._open: dict[int, OpenSession] = {}
        self._opened = 0

    @property
    def links(self) -> list[kv_pb2.Link]:
        """All links that the sidecar has told of, the last word on each."""
        return list(self._links.values())

    def open(self) -> OpenSession:
        """A session with a number of its own."""
        self._opened += 1
        session = self._open[self._opened] = OpenSession(self._opened)
        return session

    def forget(self, session: OpenSession) -> None:
        """Nothing more is kept for this router."""
        self._open.pop(session.number, None)

    def close(self) -> None:
        """Ends every stream, once its router has all that it is still to be told."""
        for session in self._open.values():
            session.close()

    def deliver(self, updates: Updates, load: worker_pb2.Load) -> None:
        """Takes what a step of the engine brought; updates for a session that ended are dropped."""
        self.load = load
        for number, news in updates.items():
            if session := self._open.get(number):
                session.tell(news)
        for session in self._open.values():
            session.news.set()

    def deliver_link(self, link: kv_pb2.Link) -> None:
        """Tells every router what the sidecar says of a link, whoever has asked."""
        self._links[link.peer] = link
        self._links.move_to_end(link.peer)
        if len(self._links) > MAX_LINKS:
            self._links.popitem(last=False)
        for session in self._open.values():
            if not session.closed:
                session.links[link.peer] = link
                session.news.set()
