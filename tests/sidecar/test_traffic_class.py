"""What the network sees of KV: its packets are of another class than those of control calls."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.transports.sockets import BULK_DSCP
from tests.sidecar.conftest import GEOMETRY, Pair, joined

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="packets are root's to hear")

_ETH_P_IP = 0x0800  # linux/if_ether.h
_TOKENS = 100


@pytest.fixture
def loopback() -> Iterator[socket.socket]:
    """Hears every IPv4 packet of this machine to itself."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as packets:
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        packets.bind(("lo", _ETH_P_IP))
        packets.setblocking(False)
        yield packets


def heard(loopback: socket.socket) -> Counter[tuple[int, int]]:
    """Bytes over TCP until now, by the port they went to and the DSCP value of their packets."""
    found: Counter[tuple[int, int]] = Counter()
    while True:
        try:
            packet = loopback.recv(1 << 16)
        except BlockingIOError:
            return +found
        if packet[9] == socket.IPPROTO_TCP:
            segment = packet[(packet[0] & 0xF) * 4 :]
            payload = len(segment) - (segment[12] >> 4) * 4
            found[int.from_bytes(segment[2:4], "big"), packet[1] >> 2] += payload


async def move(pair: Pair) -> None:
    """One sequence, not through the proxy."""
    pair.open("t", _TOKENS, peer=pair.token.address)
    pair.complete("t")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
async def test_kv_is_of_the_class_for_much_data_and_control_calls_are_of_none(
    tmp_path: Path, loopback: socket.socket, transport: str
) -> None:
    async with joined(tmp_path, transport) as pair:
        control = int(pair.token.address.rpartition(":")[2])
        bulk = int(pair.token.sidecar.endpoints[transport])
        await move(pair)
        found = heard(loopback)
        assert found[bulk, BULK_DSCP] >= GEOMETRY.sequence_bytes(_TOKENS)
        assert 0 < found[control, 0] < found[bulk, BULK_DSCP]
        assert found[bulk, 0] == found[control, BULK_DSCP] == 0
