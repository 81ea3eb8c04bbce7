"""TCP sockets as bulk data wants them, on the event loop."""

import asyncio
import socket
from typing import Final

CONNECT_S: Final = 2.0

BUFFER_BYTES: Final = 4 << 20
"""What is under way in the kernel while the other side has its processor for something else."""

LOST_MS: Final = 10_000
"""Bytes that a host has not acknowledged for this long say that it is gone."""

BULK_DSCP: Final = 10
"""AF11, for much data that is in no hurry (RFC 4594, 4.8): KV lets control calls go first where a
queue of the network's, or the kernel's own, has classes. Others do as they did."""

_TRAFFIC_CLASS: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TOS),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
}
_TC_PRIO_BULK: Final = 2  # linux/pkt_sched.h: what the kernel makes of AF11 itself, over IPv4 only


def tune(connection: socket.socket) -> socket.socket:
    """The same connection, with deep buffers, small delays, an eye on the other host, and KV's
    class."""
    options = (
        (*_TRAFFIC_CLASS[connection.family], BULK_DSCP << 2),
        (socket.SOL_SOCKET, socket.SO_PRIORITY, _TC_PRIO_BULK),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_MS),
    )
    for level, name, value in options:
        connection.setsockopt(level, name, value)
    return connection


async def connect(host: str, port: int) -> socket.socket:
    """A connection that never blocks. Raises OSError, and TimeoutError after CONNECT_S."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_S):
        (family, *_, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
    return connection


async def writable(connection: socket.socket) -> None:
    """Returns when the socket takes bytes again."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection)


async def readable(connection: socket.socket) -> None:
    """Returns when bytes have come, or the end of them."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
