"""Taking whoever waits at a listening socket, also when this process has no descriptor left."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

log = logging.getLogger("splitwise.sidecar.accept")

REST_S: Final = 0.5
"""Long enough to cost nothing, short enough for a peer whose connect waits 2 s."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def accept(listener: socket.socket, readable: Callable[[], None]) -> socket.socket | None:
    """The next connection, or None; `readable` is what the event loop calls for the listener.

    Who is not accepted for want of descriptors goes on waiting, and the loop would ask for nothing
    else: so it does not ask for a while.
    """
    try:
        accepted, _ = listener.accept()
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _EXHAUSTED:
            log.warning("no connection can be taken", extra={"fields": {"error": error}})
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(REST_S, _resume, listener, readable)
        else:
            log.info("no connection after all", extra={"fields": {"error": error}})
        return None
    return accepted


def _resume(listener: socket.socket, readable: Callable[[], None]) -> None:
    if listener.fileno() != -1:  # closed meanwhile
        asyncio.get_running_loop().add_reader(listener, readable)
