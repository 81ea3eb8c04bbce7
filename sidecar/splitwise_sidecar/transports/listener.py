"""A port for bytes: whoever connects is served by a task of its own, behind TLS where it is on."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from splitwise_core.errors import UserError
from splitwise_sidecar.accept import accept
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports.sockets import tune
from splitwise_sidecar.transports.wire import PlainWire, Wire, secure

log = logging.getLogger("splitwise.sidecar.listener")

MAX_CONNECTIONS: Final = 1024
"""Pushes at once, and connections that wait for one; who comes above is hung up on."""

HANDSHAKE_S: Final = 5.0


class Listener:
    """Listens for peers. `serve` is given each connection, and hung up on at `stop`."""

    def __init__(
        self,
        name: str,
        serve: Callable[[Wire], Awaitable[None]],
        tls: Tls | None,
        refused: Callable[[], None],
    ) -> None:
        """`name` is the transport's; `refused` hears of each who is not let in."""
        self._name = name
        self._serve = serve
        self._tls = tls
        self._refused = refused
        self._listener: socket.socket | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    def start(self, address: str) -> None:
        """Begins to listen at host:port; the port may be 0. Raises UserError when it cannot."""
        host, _, port = address.rpartition(":")
        try:
            (family, *_, bound), *_ = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._listener = socket.create_server(bound, family=family, backlog=128)
        except OSError as error:
            raise UserError(
                "port-taken",
                where=f"--listen-{self._name} {address}",
                wrong=f"the sidecar cannot listen there: {error.strerror or error}",
                fix="stop the process that listens there, or choose another address",
            ) from error
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        """Stops listening, and hangs up on everyone."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self) -> None:
        assert self._listener is not None
        accepted = accept(self._listener, self._accept)
        if accepted is None:
            return
        if len(self._open) == MAX_CONNECTIONS:
            fields = {"transport": self._name, "open": MAX_CONNECTIONS}
            log.warning("too many connections", extra={"fields": fields})
            accepted.close()
            return
        accepted.setblocking(False)
        task = asyncio.create_task(self._let_in(tune(accepted)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _let_in(self, accepted: socket.socket) -> None:
        try:
            wire = PlainWire(accepted) if self._tls is None else await self._secure(accepted)
        except (OSError, Refused) as error:  # TimeoutError is an OSError
            accepted.close()
            self._refused()
            fields = {"transport": self._name, "error": error}
            log.warning("a connection is refused", extra={"fields": fields})
            return
        try:
            await self._serve(wire)
        finally:
            wire.connection.close()

    async def _secure(self, accepted: socket.socket) -> Wire:
        """Raises OSError, or Refused, for one without a certificate of the cluster's."""
        assert self._tls is not None
        async with asyncio.timeout(HANDSHAKE_S):
            wire = await secure(accepted, self._tls.server_context())
        try:
            self._tls.check_peer(wire.tls)
        except Refused:
            wire.connection.close()
            raise
        return wire
