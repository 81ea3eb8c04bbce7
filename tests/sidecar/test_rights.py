"""INV-15: who has no right to a transfer is refused and counted; who has it still gets through."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from splitwise_core.capability import Capability, Refusal, mint
from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_core.rpc.channel import OPTIONS
from splitwise_sidecar.rights import ANY_PROBE, Right, Rights
from splitwise_sidecar.scratch import SLOTS
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node, Pair, joined
from tests.support.kv_worker import KvWorker

KEY, FOREIGN = b"\x0a" * 32, b"\x0b" * 32
SOURCE, TARGET = [0, 1], [9, 8]
TOKENS = 30
GOOD = Capability("t", "r", "p", "t", TOKENS, 1 << 50)


def write(path: Path, *keys: bytes) -> None:
    path.write_text("".join(f"{key.hex()}\n" for key in keys))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "capability.key"
    write(path, KEY)
    return path


@pytest.fixture
async def guarded(tmp_path: Path, key_file: Path) -> AsyncIterator[Pair]:
    """A pair that asks for capabilities; its workers are "p" and "t"."""
    async with joined(tmp_path, "tcp", ["--capability-key", str(key_file)]) as made:
        yield made


class Caller:
    """Whoever calls the token side's sidecar, without a sidecar of its own."""

    def __init__(self, node: Node) -> None:
        self.epoch = node.worker.epoch
        self._channel = grpc.aio.insecure_channel(node.address, options=OPTIONS)
        self._stub: Any = kv_pb2_grpc.KvPeerStub(self._channel)

    async def aclose(self) -> None:
        await self._channel.close()

    async def reserve(self, claim: kv_pb2.Claim, transfer_id: str = "t") -> Any:
        return await self._stub.Reserve(
            kv_pb2.ReserveRequest(
                transfer_id=transfer_id, epoch=self.epoch, num_tokens=TOKENS, claim=claim
            )
        )

    async def open_probe(self, claim: kv_pb2.Claim) -> Any:
        return await self._stub.OpenProbe(
            kv_pb2.OpenProbeRequest(epoch=self.epoch, num_tokens=TOKENS, claim=claim)
        )

    async def renew(self, *write_tokens: bytes) -> Any:
        return await self._stub.Renew(
            kv_pb2.RenewRequest(epoch=self.epoch, transfer_ids=["t"], write_tokens=write_tokens)
        )

    async def commit(self, write_token: bytes) -> Any:
        digests = [kv_pb2.LayerDigest(layer=layer) for layer in range(GEOMETRY.num_layers)]
        return await self._stub.Commit(
            kv_pb2.CommitRequest(
                transfer_id="t", epoch=self.epoch, digests=digests, write_token=write_token
            )
        )

    async def abort(self, claim: kv_pb2.Claim) -> Any:
        return await self._stub.Abort(
            kv_pb2.AbortRequest(
                transfer_id="t", epoch=self.epoch, reason=kv_pb2.CANCELLED, claim=claim
            )
        )


def right(keys: tuple[bytes, ...] = (KEY,), caller: str = "p", capability: bytes = b"") -> Right:
    """What a sidecar with these keys would show; a good capability, when none is given."""
    return Rights(caller, lambda: keys).to_push("t", capability or mint(GOOD, (KEY,)))


def to_probe(*, foreign: bool = False, token_worker: str = "t", tokens: int = TOKENS) -> Right:
    """What opens a probe of TOKENS tokens at "t", but for what is said."""
    rights = Rights("p", lambda: (FOREIGN if foreign else KEY,))
    return rights.to_probe(ANY_PROBE, token_worker, tokens, 1 << 50)


def open_lease(pair: Pair, transfer_id: str = "t") -> None:
    pair.token.worker.open_lease(transfer_id, TARGET, TOKENS, request_id="r")


def start(pair: Pair, capability: bytes, transfer_id: str = "t") -> None:
    pair.prompt.worker.fill(SOURCE, TOKENS, seed=1)
    pair.prompt.worker.start_transfer(
        transfer_id, pair.proxy.address, SOURCE, TOKENS, capability=capability
    )


async def gets_through(pair: Pair, transfer_id: str = "t") -> None:
    """The rightful transfer, which is under way, arrives."""
    pair.complete(transfer_id)
    await pair.token.worker.expect("lease_verified")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK
    assert pair.arrived(SOURCE, TARGET, TOKENS)


def refused(pair: Pair, reason: Refusal | None = None) -> float:
    """How many calls the token side has refused: for this reason, or in all."""
    labels = {"refusal": reason.value} if reason else {}
    return pair.token.value("splitwise_kv_refused_calls_total", **labels)


async def claimed(pair: Pair) -> None:
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="reserved") == 1)


# ---- what the router has not allowed ----


async def test_the_transfer_that_the_router_allows_gets_through(guarded: Pair) -> None:
    open_lease(guarded)
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)
    assert refused(guarded) == 0


def just_over() -> Capability:
    return replace(GOOD, not_after_unix_ms=int(time.time() * 1000) - 1)


NOT_ALLOWED = {
    "no capability": (lambda: b"", Refusal.MISSING),
    "no capability but noise": (lambda: b"noise", Refusal.MALFORMED),
    "one by a foreign key": (lambda: mint(GOOD, (FOREIGN,)), Refusal.FORGED),
    "another transfer's": (lambda: replace(GOOD, transfer_id="u"), Refusal.OTHER_TRANSFER),
    "another request's": (lambda: replace(GOOD, request_id="s"), Refusal.OTHER_REQUEST),
    "another prompt worker's": (
        lambda: replace(GOOD, prompt_worker="q"),
        Refusal.OTHER_PROMPT_WORKER,
    ),
    "one for another token worker": (
        lambda: replace(GOOD, token_worker="v"),
        Refusal.OTHER_TOKEN_WORKER,
    ),
    "one for more tokens": (lambda: replace(GOOD, num_tokens=TOKENS + 1), Refusal.OTHER_SIZE),
    "one for fewer tokens": (lambda: replace(GOOD, num_tokens=TOKENS - 1), Refusal.OTHER_SIZE),
    "one that has run out": (just_over, Refusal.LATE),
}


@pytest.mark.parametrize("name", NOT_ALLOWED)
async def test_a_prompt_worker_gets_nowhere_with(guarded: Pair, name: str) -> None:
    make: Callable[[], bytes | Capability]
    make, reason = NOT_ALLOWED[name]
    made = make()
    open_lease(guarded)
    start(guarded, made if isinstance(made, bytes) else mint(made, (KEY,)))
    ended = await guarded.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.DENIED
    assert ended.detail
    await guarded.until(lambda: refused(guarded) == 2)  # it may not give the lease up either
    assert refused(guarded, reason) == 2
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)
    assert refused(guarded) == 2


async def test_more_tokens_than_the_lease_has_are_refused(guarded: Pair) -> None:
    guarded.token.worker.open_lease("t", TARGET, TOKENS - 1, request_id="r")
    async with aclosing(Caller(guarded.token)) as caller:
        fits = mint(replace(GOOD, num_tokens=TOKENS - 1), (KEY,))
        reply = await caller.reserve(right(capability=fits).claim(caller.epoch))
    assert reply.outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.OTHER_SIZE) == 1


async def test_tokens_that_the_lease_holds_already_count_with_the_rest(guarded: Pair) -> None:
    held = GEOMETRY.block_tokens
    guarded.token.worker.open_lease("t", TARGET[1:], TOKENS, request_id="r", held_tokens=held)
    start(guarded, mint(GOOD, (KEY,)))
    guarded.complete("t")
    await guarded.token.worker.expect("lease_verified")
    assert guarded.arrived(SOURCE[1:], TARGET[1:], TOKENS - held)


async def test_who_is_refused_does_not_learn_whether_there_is_a_lease(guarded: Pair) -> None:
    async with aclosing(Caller(guarded.token)) as caller:
        claim = right((FOREIGN,)).claim(caller.epoch)
        without = await caller.reserve(claim)
        open_lease(guarded)
        assert await caller.reserve(claim) == without
    assert without.outcome == kv_pb2.DENIED


# ---- what was stolen or seen on its way ----


async def test_a_stolen_capability_is_of_no_use_without_a_key(guarded: Pair) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as thief:
        for keys in ((), (FOREIGN,)):
            claim = right(keys).claim(thief.epoch)
            assert (await thief.reserve(claim)).outcome == kv_pb2.DENIED
            assert (await thief.abort(claim)).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.UNPROVEN) == 4
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)


@pytest.mark.parametrize("changed", ["write_token", "caller", "epoch"])
async def test_a_proof_that_was_seen_proves_nothing_else(guarded: Pair, changed: str) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as thief:
        claim = right().claim(thief.epoch ^ (changed == "epoch"))
        if changed == "write_token":
            claim.write_token = bytes(16)
        elif changed == "caller":
            claim.caller = "q"
        assert (await thief.reserve(claim)).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.UNPROVEN) == 1


async def test_a_peer_with_a_key_of_its_own_is_not_another(guarded: Pair) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as other:
        claim = right(caller="q").claim(other.epoch)
        assert (await other.reserve(claim)).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.OTHER_PROMPT_WORKER) == 1


async def test_a_claimed_lease_is_not_claimed_again(guarded: Pair) -> None:
    open_lease(guarded)
    start(guarded, mint(GOOD, (KEY,)))
    await claimed(guarded)
    async with aclosing(Caller(guarded.token)) as second:
        assert (await second.reserve(right().claim(second.epoch))).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.NOT_HOLDER) == 1
    await gets_through(guarded)


async def test_a_claim_may_be_made_again_by_who_has_made_it(guarded: Pair) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as caller:
        claim = right().claim(caller.epoch)
        for _ in range(2):  # the first answer may have been lost
            assert (await caller.reserve(claim)).outcome == kv_pb2.OK
        assert (await caller.abort(claim)).outcome == kv_pb2.OK
        assert (await guarded.token.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
        assert (await caller.reserve(claim)).outcome == kv_pb2.UNKNOWN_TRANSFER
    assert refused(guarded) == 0


async def test_a_capability_is_spent_after_the_end_of_its_lease(guarded: Pair) -> None:
    open_lease(guarded)
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)
    before = guarded.token.worker.memory[:]
    async with aclosing(Caller(guarded.token)) as replayer:
        claim = right().claim(replayer.epoch)
        assert (await replayer.reserve(claim)).outcome == kv_pb2.DENIED
        assert (await replayer.commit(claim.write_token)).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.SPENT) == 1
    assert refused(guarded, Refusal.NOT_HOLDER) == 1
    assert guarded.token.worker.memory[:] == before
    assert guarded.token.worker.nothing_came()


async def test_an_earlier_workers_capability_opens_nothing_at_the_next(guarded: Pair) -> None:
    open_lease(guarded)
    await guarded.token.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "t2"))
    guarded.token.worker.open_lease("t", TARGET, TOKENS, request_id="r")
    start(guarded, mint(GOOD, (KEY,)))
    ended = await guarded.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.DENIED
    await guarded.until(lambda: refused(guarded, Refusal.OTHER_TOKEN_WORKER) == 2)


# ---- what is another's ----


@pytest.mark.parametrize("asks_for_capabilities", [True, False])
async def test_nobody_moves_a_lease_that_another_has_claimed(
    tmp_path: Path, key_file: Path, asks_for_capabilities: bool
) -> None:
    more = ["--capability-key", str(key_file)] if asks_for_capabilities else []
    async with joined(tmp_path, "tcp", more) as pair:
        open_lease(pair)
        start(pair, mint(GOOD, (KEY,)))
        await claimed(pair)
        async with aclosing(Caller(pair.token)) as stranger:
            for token in (b"", bytes(16)):
                assert (await stranger.commit(token)).outcome == kv_pb2.DENIED
                reply = await stranger.abort(kv_pb2.Claim(caller="p", write_token=token))
                assert (reply.outcome, reply.fenced) == (kv_pb2.DENIED, False)
                assert list((await stranger.renew(token)).unknown) == ["t"]
            assert list((await stranger.renew()).unknown) == ["t"]
        assert refused(pair, Refusal.NOT_HOLDER) == 7
        await gets_through(pair)


async def test_a_lease_that_nobody_has_claimed_is_moved_by_nobody(guarded: Pair) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as stranger:
        assert (await stranger.commit(bytes(16))).outcome == kv_pb2.DENIED
        assert list((await stranger.renew(bytes(16))).unknown) == ["t"]
        no_right = kv_pb2.Claim(caller="p", write_token=bytes(16))
        assert (await stranger.abort(no_right)).outcome == kv_pb2.DENIED
    assert refused(guarded, Refusal.NOT_HOLDER) == 2
    assert refused(guarded, Refusal.MISSING) == 1
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)


async def test_who_may_claim_a_lease_may_give_it_up_before(guarded: Pair) -> None:
    open_lease(guarded)
    async with aclosing(Caller(guarded.token)) as caller:
        assert (await caller.abort(right().claim(caller.epoch))).outcome == kv_pb2.OK
    assert (await guarded.token.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(kv_pb2.Claim(), id="no write token"),
        pytest.param(kv_pb2.Claim(write_token=bytes(17)), id="a long write token"),
        pytest.param(kv_pb2.Claim(write_token=bytes(16), caller="c" * 257), id="a long name"),
    ],
)
async def test_a_claim_that_makes_no_sense_is_refused(pair: Pair, claim: kv_pb2.Claim) -> None:
    open_lease(pair)
    async with aclosing(Caller(pair.token)) as caller:
        assert (await caller.reserve(claim)).outcome == kv_pb2.DENIED
    assert refused(pair, Refusal.MALFORMED) == 1


# ---- keys, probes, logs ----


async def test_keys_change_while_transfers_follow_each_other(guarded: Pair, key_file: Path) -> None:
    new = b"\x0c" * 32
    for number, keys in enumerate([(KEY,), (KEY, new), (new, KEY), (new,)]):
        write(key_file, *keys)
        transfer = f"t{number}"
        open_lease(guarded, transfer)
        start(guarded, mint(replace(GOOD, transfer_id=transfer), keys), transfer)
        await gets_through(guarded, transfer)
    assert refused(guarded) == 0
    open_lease(guarded)
    start(guarded, mint(GOOD, (KEY,)))  # which is accepted no more
    assert (await guarded.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.DENIED


async def test_a_damaged_key_file_is_counted_and_the_keys_stay(
    guarded: Pair, key_file: Path
) -> None:
    write(key_file)
    open_lease(guarded)
    start(guarded, mint(GOOD, (KEY,)))
    await gets_through(guarded)
    assert guarded.token.value("splitwise_kv_key_failures_total") == 1


async def test_a_probe_shows_a_capability_of_its_own(guarded: Pair) -> None:
    guarded.token.worker.start_probe(3, guarded.token.address)
    assert (await guarded.token.worker.expect("probe_ended")).outcome == kv_pb2.OK
    assert refused(guarded) == 0


NO_PROBE = {
    "shows nothing": (kv_pb2.Claim(write_token=bytes(16)), Refusal.MISSING),
    "has a foreign key": (to_probe(foreign=True), Refusal.FORGED),
    "means another worker": (to_probe(token_worker="v"), Refusal.OTHER_TOKEN_WORKER),
    "means fewer tokens": (to_probe(tokens=TOKENS - 1), Refusal.OTHER_SIZE),
    "has the right to a request's transfer": (right(), Refusal.UNPROVEN),
}


@pytest.mark.parametrize("who", NO_PROBE)
async def test_scratch_memory_is_not_for_one_that(guarded: Pair, who: str) -> None:
    """Else it could keep all of it, and no link to this worker would ever be measured."""
    shown, reason = NO_PROBE[who]
    async with aclosing(Caller(guarded.token)) as stranger:
        claim = shown if isinstance(shown, kv_pb2.Claim) else shown.claim(stranger.epoch)
        for _ in range(SLOTS):
            assert (await stranger.open_probe(claim)).outcome == kv_pb2.DENIED
    assert refused(guarded, reason) == SLOTS
    guarded.prompt.worker.measure_link(guarded.token.address)
    assert (await guarded.prompt.worker.link()).outcome == kv_pb2.OK
    assert refused(guarded) == SLOTS


async def test_a_reason_is_said_once_and_nothing_secret_with_it(
    guarded: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    open_lease(guarded)
    shown = right((FOREIGN,))
    async with aclosing(Caller(guarded.token)) as stranger:
        for _ in range(5):
            await stranger.reserve(shown.claim(stranger.epoch))
            await stranger.commit(shown.write_token)
    said = [str(vars(record)) for record in caplog.records]
    assert sum("had no right" in text for text in said) == 2
    secrets = (KEY, shown.write_token, shown.capability, shown.claim(1).proof)
    for secret in secrets:
        assert not any(secret.hex() in text or repr(secret)[2:-1] in text for text in said)
