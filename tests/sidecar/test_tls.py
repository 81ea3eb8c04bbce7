"""Encrypted KV: who has a certificate of the cluster is let in, and nobody else; renewal cuts
nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_operator.certificates import renewed
from splitwise_sidecar import doors, handshakes, movers
from splitwise_sidecar.transports import wire_id
from splitwise_sidecar.transports.tcp import FRAME
from tests.sidecar.conftest import GEOMETRY, Node
from tests.support.certificates import NAME, Bundle, bundle, expired, put, rolled, trusting_both
from tests.support.kv_worker import ANSWER_WITHIN_S

TOKENS = 100
REFUSED = "splitwise_kv_connections_refused_total"
USELESS = "splitwise_kv_certificates_refused_total"
EXPIRY = "splitwise_kv_certificate_expiry_timestamp_seconds"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "TLS_POLL_S", 0.02)
    monkeypatch.setattr(handshakes, "PATIENCE_S", 1.0)


@pytest.fixture
def good() -> Bundle:
    return bundle()


class Two:
    """A prompt and a token node, each with a directory of certificates."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack

    async def start(
        self, prompt: Bundle, token: Bundle, transport: str = "grpc", name: str = NAME
    ) -> None:
        """`name` is the token node's."""
        self.prompt = await self._node("p", prompt, transport, NAME)
        self.token = await self._node("t", token, transport, name)

    async def _node(self, name: str, files: Bundle, transport: str, tls_name: str) -> Node:
        at = put(self.files(name), files)
        more = ["--tls-dir", str(at), "--tls-name", tls_name]
        node = Node(self._directory, name, [transport], more)
        self._stack.push_async_callback(node.stop)
        await node.start()
        return node

    def files(self, name: str) -> Path:
        return self._directory / f"{name}-tls"

    def begin(self, name: str) -> None:
        blocks = list(range(GEOMETRY.blocks_for(TOKENS)))
        self.prompt.worker.fill(blocks, TOKENS, seed=len(name))
        self.token.worker.open_lease(name, blocks, TOKENS)
        self.prompt.worker.start_transfer(name, self.token.address, blocks, TOKENS)

    async def end(self, name: str, first: int = 0) -> kv_pb2.TransferEnded:
        self.prompt.worker.layers_ready(name, first)
        self.prompt.worker.finish(name)
        ended: kv_pb2.TransferEnded = await self.prompt.worker.expect("transfer_ended")
        if ended.outcome == kv_pb2.OK:
            await self.token.worker.expect("lease_verified")
            blocks = list(range(GEOMETRY.blocks_for(TOKENS)))
            sent = self.prompt.worker.read(blocks, TOKENS)
            assert self.token.worker.read(blocks, TOKENS) == sent
        return ended

    async def transfer(self, name: str) -> kv_pb2.TransferEnded:
        self.begin(name)
        return await self.end(name)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        yield Two(tmp_path, stack)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while not holds():
            await asyncio.sleep(0.01)


# ---- who is let in ----


@pytest.mark.parametrize("at_once", [True, False], ids=["on the event loop", "in threads"])
@pytest.mark.parametrize("transport", ["grpc", "tcp", "shm"])
async def test_two_sidecars_of_a_cluster_exchange_kv(
    two: Two, good: Bundle, monkeypatch: pytest.MonkeyPatch, transport: str, at_once: bool
) -> None:
    monkeypatch.setattr(movers, "AT_ONCE_BYTES", movers.AT_ONCE_BYTES * at_once)
    await two.start(good, good, transport)
    ended = await two.transfer("t")
    assert (ended.outcome, ended.transport) == (kv_pb2.OK, transport)
    assert two.token.value(EXPIRY) > 0
    assert two.token.value(USELESS) == 0


async def test_a_probe_passes_through_the_encrypted_door(two: Two, good: Bundle) -> None:
    await two.start(good, good)
    two.token.worker.start_probe(3, two.token.address)
    assert (await two.token.worker.expect("probe_ended")).outcome == kv_pb2.OK


def channel(address: str, files: Bundle | None, trust: Bundle) -> grpc.aio.Channel:
    """As a stranger dials who has listened well: he knows the name and the authority."""
    pair = (files["tls.key"], files["tls.crt"]) if files is not None else ()
    made = grpc.ssl_channel_credentials(trust["ca.crt"], *pair)
    options = [("grpc.ssl_target_name_override", NAME)]
    return grpc.aio.secure_channel(address, made, options=options)


STRANGERS = {
    "without a certificate": lambda good: None,
    "with an expired certificate": lambda good: expired(by=good),
    "with the certificate of another cluster": lambda good: bundle(),
    "with a certificate for another name": lambda good: bundle("other", by=good),
}


@pytest.mark.parametrize("who", STRANGERS)
async def test_a_stranger_is_refused_and_counted(two: Two, good: Bundle, who: str) -> None:
    await two.start(good, good)
    async with channel(two.token.address, STRANGERS[who](good), good) as stranger:
        await is_refused_and_counted(two, stranger)


async def test_plaintext_is_refused_and_counted(two: Two, good: Bundle) -> None:
    await two.start(good, good)
    async with grpc.aio.insecure_channel(two.token.address) as stranger:
        await is_refused_and_counted(two, stranger)


async def is_refused_and_counted(two: Two, stranger: grpc.aio.Channel) -> None:
    two.begin("t")
    await until(lambda: two.token.value("splitwise_kv_leases", state="reserved") == 1)
    hello = kv_pb2.HelloRequest(geometry_fingerprint=GEOMETRY.fingerprint(), transports=["grpc"])
    stub: Any = kv_pb2_grpc.KvPeerStub(stranger)
    renew = kv_pb2.RenewRequest(epoch=two.token.worker.epoch, transfer_ids=["t"])
    abort = kv_pb2.AbortRequest(epoch=two.token.worker.epoch, transfer_id="t")
    calls = ((stub.Hello, hello), (stub.Renew, renew), (stub.Abort, abort))
    for method, request in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(request, timeout=5)
        assert refused.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.PERMISSION_DENIED,
        )
    await until(lambda: two.token.value(REFUSED, transport="grpc") >= 1)
    assert (await two.end("t")).outcome == kv_pb2.OK, "what was under way goes on"
    assert (await two.transfer("next")).outcome == kv_pb2.OK


async def push(stranger: grpc.aio.Channel) -> None:
    call: Any = stranger.stream_unary("/splitwise.v1.KvBytes/Push")(timeout=5)
    await call.write(b"x" * 100)
    await call


@pytest.mark.parametrize("who", [*STRANGERS, "in plaintext"])
async def test_a_stranger_at_the_door_for_bytes_over_grpc_is_refused_and_counted(
    two: Two, good: Bundle, who: str
) -> None:
    await two.start(good, good)
    address = two.token.bytes_address
    made = grpc.aio.insecure_channel(address)
    if who in STRANGERS:
        made = channel(address, STRANGERS[who](good), good)
    async with made as stranger:
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
            await push(stranger)
    await until(lambda: two.token.value(REFUSED, transport="grpc") >= 1)
    nothing_came(two)
    assert (await two.transfer("next")).outcome == kv_pb2.OK


@pytest.mark.parametrize("who", [*STRANGERS, "in plaintext"])
async def test_a_stranger_at_the_tcp_door_is_refused_and_counted(
    two: Two, good: Bundle, tmp_path: Path, who: str
) -> None:
    await two.start(good, good, "tcp")
    files = STRANGERS[who](good) if who in STRANGERS else None
    port = int(two.token.sidecar.endpoints["tcp"])
    frame = FRAME.pack(wire_id("t"), two.token.worker.epoch, 64, 0, 1)
    context = None if who == "in plaintext" else as_stranger(tmp_path, files, good)
    name = None if context is None else NAME
    with suppress(OSError):  # one without a certificate learns it when he reads, or right away
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        writer.write(frame)
        assert await reader.read() == b"", "the sidecar hangs up"
        writer.close()
    await until(lambda: two.token.value(REFUSED, transport="tcp") == 1)
    nothing_came(two)
    assert (await two.transfer("next")).outcome == kv_pb2.OK


def as_stranger(directory: Path, files: Bundle | None, trust: Bundle) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trust["ca.crt"].decode())
    if files is not None:
        own = put(directory / "stranger", files)
        context.load_cert_chain(own / "tls.crt", own / "tls.key")
    return context


async def test_kv_over_tcp_cannot_be_read_on_its_way(two: Two, good: Bundle) -> None:
    await two.start(good, good, "tcp")
    heard = bytearray()
    target = "127.0.0.1", int(two.token.sidecar.endpoints["tcp"])
    async with AsyncExitStack() as stack:
        ear = await stack.enter_async_context(await listening_in(target, heard))
        two.token.sidecar.endpoints["tcp"] = str(ear.sockets[0].getsockname()[1])
        assert (await two.transfer("t")).outcome == kv_pb2.OK
    assert len(heard) > GEOMETRY.sequence_bytes(TOKENS)
    assert two.prompt.worker.read([0], 1)[0] not in heard


async def listening_in(target: tuple[str, int], heard: bytearray) -> asyncio.Server:
    """Passes on what comes, and keeps it."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            heard.extend(data)
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*target)
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_peers_of_the_cluster_are_never_counted_as_strangers(two: Two, good: Bundle) -> None:
    await two.start(good, good)
    for number in range(3):
        assert (await two.transfer(f"t{number}")).outcome == kv_pb2.OK
    async with channel(two.token.address, None, good) as stranger:
        await is_refused_and_counted(two, stranger)
    assert two.prompt.value(REFUSED) == 0


async def test_a_peer_of_another_cluster_is_given_no_kv(two: Two, good: Bundle) -> None:
    await two.start(bundle(), good)
    ended = await two.transfer("t")
    assert ended.outcome == kv_pb2.PEER_LOST
    assert "CERTIFICATE_VERIFY_FAILED" in ended.detail
    nothing_came(two)


async def test_a_peer_with_another_name_is_given_no_kv(two: Two, good: Bundle) -> None:
    other = bundle("other", by=good)
    await two.start(good, other, name="other")
    ended = await two.transfer("t")
    assert ended.outcome == kv_pb2.PEER_LOST
    nothing_came(two)


async def test_who_is_refused_for_his_name_is_told_so(two: Two, good: Bundle) -> None:
    await two.start(good, good)
    async with channel(two.token.address, bundle("other", by=good), good) as stranger:
        stub: Any = kv_pb2_grpc.KvPeerStub(stranger)
        with pytest.raises(grpc.aio.AioRpcError, match=f"not for {NAME}"):
            await stub.Hello(kv_pb2.HelloRequest(), timeout=5)


def nothing_came(two: Two) -> None:
    assert two.prompt.value("splitwise_kv_transfer_bytes_total") == 0
    assert not any(two.token.worker.memory[:])


# ---- renewal ----


async def test_renewal_fails_no_transfer(
    two: Two, good: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each side in its turn: by the same authority, then by a new one beside the old."""
    monkeypatch.setattr("splitwise_sidecar.peer.IDLE_S", 0.0)  # every transfer connects anew
    await two.start(good, good)
    once = bundle(by=good, age=timedelta(hours=1))
    both = trusting_both(once, age=timedelta(hours=2))
    new = renewed(dict(both) | {"tls.crt": b""}, NAME, datetime.now(UTC))
    for step, files in enumerate((once, both, new)):
        for side, node in (("p", two.prompt), ("t", two.token)):
            name = f"{step}{side}"
            two.begin(name)
            two.prompt.worker.layers_ready(name, 0, 1)
            before = node.value(EXPIRY)
            put(two.files(side), files)
            await until(lambda node=node, before=before: node.value(EXPIRY) != before)  # type: ignore[misc]
            ended = await two.end(name, 1)
            assert ended.outcome == kv_pb2.OK, ended.detail
            ended = await two.transfer(f"{name} after")
            assert ended.outcome == kv_pb2.OK, ended.detail
    assert two.token.value(REFUSED) == two.prompt.value(REFUSED) == 0


async def test_after_renewal_the_new_certificate_is_shown_and_asked_for(
    two: Two, good: Bundle
) -> None:
    await two.start(good, good)
    new = rolled(good, age=timedelta(hours=1))
    before = two.token.value(EXPIRY)
    put(two.files("t"), new)
    await until(lambda: two.token.value(EXPIRY) != before)
    async with channel(two.token.address, new, trust=new) as peer:
        stub: Any = kv_pb2_grpc.KvPeerStub(peer)
        await stub.Renew(kv_pb2.RenewRequest(), timeout=5)
    async with channel(two.token.address, new, trust=good) as behind:
        stub = kv_pb2_grpc.KvPeerStub(behind)
        with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await stub.Renew(kv_pb2.RenewRequest(), timeout=5)


BROKEN = {
    "a key of another certificate": lambda good: good | {"tls.key": bundle(by=good)["tls.key"]},
    "a certificate cut in the middle": lambda good: good | {"tls.crt": good["tls.crt"][:300]},
    "an empty key": lambda good: good | {"tls.key": b""},
    "an authority that has not signed it": lambda good: good | {"ca.crt": bundle()["ca.crt"]},
    "no authority": lambda good: good | {"ca.crt": b""},
    "an expired certificate": lambda good: expired(by=good),
    "a certificate for another name": lambda good: bundle("other", by=good),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_files_that_are_of_no_use_leave_the_old_ones_in_use(
    two: Two, good: Bundle, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await two.start(good, good)
    before = two.token.value(EXPIRY)
    put(two.files("t"), BROKEN[what](dict(good)))
    await until(lambda: two.token.value(USELESS) > 0)
    assert (await two.transfer("t")).outcome == kv_pb2.OK
    assert two.token.value(EXPIRY) == before
    assert all(line not in caplog.text for line in good["tls.key"].decode().split("\n")[1:-2])
    put(two.files("t"), bundle(by=good, age=timedelta(hours=1)))
    await until(lambda: two.token.value(EXPIRY) != before)
    assert (await two.transfer("healed")).outcome == kv_pb2.OK
