"""Unix sockets of datagrams in order, for processes of the same user on this machine."""

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from splitwise_core.errors import UserError
from splitwise_sidecar.accept import accept

log = logging.getLogger("splitwise.sidecar.local_socket")

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid


class LocalSocket:
    """Listens at `path`; `connected` is called with everyone of our own user."""

    def __init__(self, path: Path, connected: Callable[[socket.socket], None]) -> None:
        self._path = path
        self._connected = connected
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Begins to listen. Raises UserError when that is not possible."""
        try:
            self._socket = _listen(self._path)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise UserError(
                "port-taken" if taken else "environment",
                where=f"--socket {self._path}",
                wrong=f"cannot listen there: {error.strerror or error}",
                fix="stop the sidecar that listens there" if taken else "choose another path",
            ) from error
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def stop(self) -> None:
        """Stops listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        assert self._socket is not None
        connection = accept(self._socket, self._accept)
        if connection is None:
            return
        if not is_our_user(connection):
            connection.close()
            return
        connection.setblocking(False)
        self._connected(connection)


def is_our_user(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as our user; another is told of in the log."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(credentials)
    if uid == os.geteuid():
        return True
    log.warning("not our user", extra={"fields": {"pid": pid, "uid": uid}})
    return False


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid == os.geteuid():
        path.parent.chmod(0o700)  # a mounted volume may be another's: then the socket's mode counts
    _remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(8)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _remove_dead(path: Path) -> None:
    """Removes the socket of a sidecar that is gone; a living one's stays, and bind fails."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
