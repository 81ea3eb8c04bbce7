"""INV-1 to INV-6 of docs/invariants.md, whatever the order in which things happen.

The model is not the subject: a stub computes, so that thousands of orders can be tried.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from splitwise_core.kv import KvGeometry
from splitwise_core.metric import Component
from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_worker import commands
from splitwise_worker.admission import Limits
from splitwise_worker.engine import Engine
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.estimates import Estimates
from splitwise_worker.handover import Handover
from splitwise_worker.machine import Machine
from splitwise_worker.model_work import ModelWork
from splitwise_worker.outbox import Outbox, Updates
from splitwise_worker.probe import Probe
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import Phase, SequenceKey
from splitwise_worker.switchover import Switchover
from tests.worker.stubs import BLOCK_TOKENS, HonestSidecar, LateStore, StubRunner
from tests.worker.support import EXPIRED, OK, PEER, WALL_S, request

BLOCKS, SEQUENCES = 12, 5
ENDED_BADLY = st.sampled_from([EXPIRED, kv_pb2.DIGEST_MISMATCH, kv_pb2.CANCELLED])


@dataclass
class Asked:
    """A request as its router sees it."""

    next_token: int
    beyond: int  # no token comes from here on
    ends: int = 0
    wanted: bool = True  # until the router cancels it or goes


class Orders(RuleBasedStateMachine):
    """Routers, a sidecar and the time, in any order; the engine's loop turns now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.verified: set[str] = set()
        self.requests: dict[tuple[int, int], Asked] = {}
        self.fresh: set[tuple[int, int]] = set()  # asked or cancelled, and not yet taken up
        self.repeats = 0
        self.moves = 0
        self.drains = False
        self.epochs = 0
        self.telemetry = Telemetry(Component.WORKER)
        self.pool = BlockPool(BLOCKS)
        self.scheduler = Scheduler(
            self.pool, BLOCK_TOKENS, SEQUENCES, batch_tokens=12, prefix_key=b"key", chunk_tokens=3
        )
        self.sidecar = HonestSidecar()
        self.store = LateStore()
        handover = Handover(self.sidecar, BLOCK_TOKENS, 1000)  # type: ignore[arg-type]
        self.probe = Probe(self.pool, handover, PEER)
        self.engine = Engine(
            scheduler=self.scheduler,
            runner=StubRunner(self.verified),
            store=self.store,  # type: ignore[arg-type]
            handover=handover,
            probe=self.probe,
            outbox=Outbox(self.deliver),
            metrics=EngineMetrics(
                self.telemetry,
                lambda: 1,
                Estimates(self.telemetry, ModelWork(1, 1, 1, 1, 1, None), Machine()),
                block_bytes=1,
            ),
            switchover=Switchover(KvGeometry("stub", "float32", 1, 1, 1, BLOCK_TOKENS)),
            limits=Limits(max_model_len=24, vocab_size=100),
            eos_token_ids=frozenset({13}),
            clock=lambda: self.now,
            unix_clock=lambda: WALL_S + self.now,
        )
        self.attach()

    def deliver(self, updates: Updates, load: worker_pb2.Load) -> None:
        """INV-1 and INV-2: tokens in order, one end, and nothing after it."""
        for session, news in updates.items():
            for update in news:
                if "is here already" in update.detail:
                    continue  # the answer to `ask_again`
                key = (session, update.sequence)
                asked = self.requests[key]
                assert asked.ends == 0, "news after the end"
                assert asked.wanted or key in self.fresh, "news for nobody"
                assert list(update.tokens) in ([], [asked.next_token]), "INV-2"
                asked.next_token += len(update.tokens)
                assert asked.next_token <= asked.beyond, "more than was asked"
                asked.ends += bool(update.finish)
        assert load.free_blocks == self.pool.free_blocks

    # ---- routers ----

    def message(self, size: int, output: int, most: int, patience_s: int) -> worker_pb2.Request:
        number, deadline_s = len(self.requests), WALL_S + self.now + patience_s
        return request(
            number, [1] * size, output + most, [2] * output, deadline_s, ignore_eos=False
        )

    def ask(self, session: int, message: worker_pb2.Request, first_token: int) -> None:
        key = (session, message.sequence)
        beyond = len(message.prompt_tokens) + message.sampling.max_tokens
        self.requests[key] = Asked(first_token, beyond)
        self.fresh.add(key)

    ANY = {  # noqa: RUF012 - arguments of rules
        "session": st.integers(1, 2),
        "size": st.integers(1, 14),
        "output": st.integers(0, 2),
        "most": st.integers(1, 8),
        "patience_s": st.sampled_from([0, 5, 60]),
    }

    @rule(**ANY, hands_over=st.booleans())
    def prefill(self, session: int, hands_over: bool, size: int, output: int, **more: int) -> None:
        message = worker_pb2.Prefill(request=self.message(size, output, **more))
        if hands_over:
            transfer = worker_pb2.Transfer(transfer_id=f"t{len(self.requests)}", peer=PEER)
            message.transfer.CopyFrom(transfer)
        self.ask(session, message.request, size + output)
        self.engine.submit(commands.Prefill(session, message))

    @rule(**ANY)
    def decode(self, session: int, size: int, output: int, **more: int) -> None:
        transfer = worker_pb2.Transfer(transfer_id=f"t{len(self.requests)}")
        asked = self.message(size, output, **more)
        self.ask(session, asked, size + output + 1)  # the first is the prompt worker's
        self.engine.submit(
            commands.Decode(session, worker_pb2.Decode(request=asked, transfer=transfer))
        )

    @precondition(lambda self: not self.drains)  # or it would hear that, and nothing else
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """A number that is here, or a transfer that the sidecar has, is not taken in twice."""
        self.turn(1)
        here = {sequence.key.number: sequence for sequence in self.scheduler}
        if here:
            one = here[data.draw(st.sampled_from(sorted(here)))]
            is_over = one.transfer_id not in self.sidecar.touched  # its id may come again
            number = one.key.number if data.draw(st.booleans()) or is_over else 10**6
            asked = request(number, [1], deadline_s=WALL_S + self.now + 60)
            transfer = worker_pb2.Transfer(transfer_id=one.transfer_id or "new")
            message = worker_pb2.Decode(request=asked, transfer=transfer)
            self.engine.submit(commands.Decode(one.key.session, message))
            self.turn(1)
            self.repeats += 1

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.requests:
            key = data.draw(st.sampled_from(sorted(self.requests)))
            self.requests[key].wanted = False
            self.fresh.add(key)
            self.engine.submit(commands.Cancel(SequenceKey(*key)))

    @rule(session=st.integers(1, 2))
    def session_ends(self, session: int) -> None:
        for key, asked in self.requests.items():
            if key[0] == session:
                asked.wanted = False
                self.fresh.add(key)
        self.engine.submit(commands.SessionEnded(session))

    @rule(data=st.data(), behind=st.integers(-1, 3), with_peer=st.booleans())
    def move(self, data: st.DataObject, behind: int, with_peer: bool) -> None:
        """Whether it was wanted or not, and whether it makes sense or not."""
        here = {sequence.key.number: sequence for sequence in self.scheduler}
        if here:
            one = here[data.draw(st.sampled_from(sorted(here)))]
            tokens = max(0, one.num_tokens - behind)
            message = worker_pb2.Move(sequence=one.key.number, num_tokens=tokens)
            if with_peer:
                self.moves += 1
                transfer = worker_pb2.Transfer(transfer_id=f"m{self.moves}", peer=PEER)
                message.transfer.CopyFrom(transfer)
            self.engine.submit(commands.Move(one.key, message))

    @precondition(lambda self: len(self.requests) > 10)  # little comes after it
    @rule(within_s=st.sampled_from([0.0, 2.0, 30.0]))
    def drain(self, within_s: float) -> None:
        self.drains = True
        self.engine.submit(commands.Drain(within_s))

    # ---- the sidecar ----

    @precondition(lambda self: self.sidecar.tells_pushed & self.sidecar.readable)
    @rule(data=st.data())
    def all_layers_are_over(self, data: st.DataObject) -> None:
        transfer = data.draw(
            st.sampled_from(sorted(self.sidecar.tells_pushed & self.sidecar.readable))
        )
        self.sidecar.tells_pushed.discard(transfer)
        self.hear(transfer_pushed=kv_pb2.TransferPushed(transfer_id=transfer))

    @rule()
    def attach(self) -> None:
        if self.sidecar.epoch == 0:
            self.epochs += 1
            self.sidecar.epoch = self.epochs
            self.hear(attached=kv_pb2.Attached(outcome=OK, epoch=self.epochs))

    @rule()
    def lose_sidecar(self) -> None:
        if self.sidecar.epoch:
            self.sidecar.die()
            self.engine.submit(commands.SidecarLost())

    @precondition(lambda self: self.sidecar.touched)
    @rule(data=st.data(), well=st.booleans(), token=st.sampled_from([3, 99, 100]))
    def sidecar_lets_go(self, data: st.DataObject, well: bool, token: int) -> None:
        """For better or worse; also of what was withdrawn, which is the only answer to that."""
        transfer = data.draw(st.sampled_from(sorted(self.sidecar.touched)))
        outcome = OK if well else data.draw(ENDED_BADLY)
        receives = transfer in self.sidecar.receives
        sent = transfer in self.sidecar.finished & self.sidecar.readable
        self.sidecar.end(transfer)
        if receives and well:
            self.verified.add(transfer)
            self.hear(lease_verified=_verified(transfer, token))
        elif receives:
            self.hear(lease_ended=kv_pb2.LeaseEnded(transfer_id=transfer, outcome=outcome))
        else:
            outcome = outcome if sent or not well else EXPIRED
            self.hear(transfer_ended=kv_pb2.TransferEnded(transfer_id=transfer, outcome=outcome))

    @precondition(lambda self: self.sidecar.probed)
    @rule(well=st.booleans())
    def a_probe_ends(self, well: bool) -> None:
        """For worse: it is tried again, with the same block."""
        if well:
            self.sidecar.probed = ()
        self.hear(probe_ended=kv_pb2.ProbeEnded(outcome=OK if well else EXPIRED))

    def hear(self, **kind: Any) -> None:
        self.engine.submit(commands.FromSidecar(kv_pb2.FromSidecarToWorker(**kind)))

    # ---- the device ----

    @rule()
    def copies_land(self) -> None:
        self.store.settle()

    # ---- time ----

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.engine.turn(wait=False)
            self.fresh.clear()

    # ---- what holds ----

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        """INV-4."""
        held = {block for sequence in self.scheduler for block in sequence.blocks}
        assert not held & set(self.probe.blocks)
        assert len(held) + len(self.probe.blocks) + self.pool.free_blocks == BLOCKS
        assert len(self.scheduler) <= SEQUENCES

    @invariant()
    def what_is_still_written_is_one_sequences_own(self) -> None:
        """INV-5: only what stands whole in the blocks is shared."""
        holders = Counter(block for sequence in self.scheduler for block in sequence.blocks)
        for sequence in self.scheduler:
            assert len(sequence.blocks) == len(set(sequence.blocks))
            arrives = sequence.phase is Phase.ARRIVING
            whole = sequence.cached_tokens if arrives else sequence.computed_tokens
            own = sequence.blocks[whole // BLOCK_TOKENS :]
            assert all(holders[block] == 1 for block in own)

    @invariant()
    def where_a_peer_may_write_nobody_else_reads(self) -> None:
        """INV-5, INV-6."""
        holders = Counter(block for sequence in self.scheduler for block in sequence.blocks)
        for transfer in self.sidecar.receives:
            assert all(holders[block] == 1 for block in self.sidecar.touched[transfer])

    @invariant()
    def what_the_sidecar_touches_belongs_to_its_own_sequence(self) -> None:
        """INV-6."""
        held = {
            s.transfer_id: set(s.blocks)
            for s in self.scheduler
            if s.phase is not Phase.RUNNING or s.moving_tokens
        }
        assert set(self.sidecar.probed) <= set(self.probe.blocks)
        for transfer, blocks in self.sidecar.touched.items():
            assert set(blocks) <= held.get(transfer, set())

    @invariant()
    def what_lands_late_lands_in_blocks_that_are_still_its_own(self) -> None:
        """INV-6."""
        sending = [set(s.blocks) for s in self.scheduler if s.hands_over]
        for blocks, _ in self.store.under_way:  # of a move: all but what it decodes behind them
            assert any(own.issuperset(blocks) for own in sending)

    def teardown(self) -> None:
        """INV-1, INV-4: when all is said, everything has ended once, and everything is free."""
        self.turn(1)
        self.sidecar.die()
        self.engine.submit(commands.SidecarLost())
        while self.engine.turn(wait=False):
            pass
        assert (len(self.scheduler), self.pool.free_blocks) == (0, BLOCKS)
        assert all(asked.ends == 1 for asked in self.requests.values() if asked.wanted)
        counted = sum(
            sample.value
            for family in self.telemetry.registry.collect()
            for sample in family.samples
            if sample.name == "splitwise_worker_sequences_total"
        )
        assert counted == len(self.requests) + self.repeats


def _verified(transfer: str, token: int) -> kv_pb2.LeaseVerified:
    return kv_pb2.LeaseVerified(transfer_id=transfer, output_tokens=[token])


TestAnyOrder = Orders.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
