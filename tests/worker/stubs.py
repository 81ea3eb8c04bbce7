"""What surrounds an engine when neither the model nor the bytes are the subject."""

from collections.abc import Callable, Sequence

from splitwise_core.rpc import kv_pb2
from splitwise_worker.sampling import UNFINISHED, Sampled
from splitwise_worker.sequence import LiveSequence

BLOCK_TOKENS = 4


class StubRunner:
    """A sequence's next token is its length; checks that it may run at all."""

    def __init__(self, verified: set[str]) -> None:
        self._verified = verified

    def run(
        self,
        sequences: Sequence[LiveSequence],
        on_layer: Callable[[int], None] | None = None,
        tokens: Sequence[int] | None = None,
    ) -> list[Sampled | None]:
        found: list[Sampled | None] = []
        for sequence, count in zip(sequences, tokens or (), strict=True):
            decodes_arrived = sequence.transfer_id and not sequence.hands_over
            assert not decodes_arrived or sequence.transfer_id in self._verified, "INV-3"
            assert len(sequence.blocks) * BLOCK_TOKENS >= sequence.num_tokens
            assert 0 < count <= len(sequence.pending_tokens)
            sequence.computed_tokens += count
            whole = sequence.tokens_to_compute == 0
            found.append(Sampled(sequence.num_tokens) if whole else UNFINISHED)
        if on_layer is not None:
            on_layer(0)
        return found


class LateStore:
    """As on a GPU: what is published gets to the host pool later, or when it is waited for."""

    def __init__(self) -> None:
        self.under_way: list[tuple[Sequence[int], Callable[[], None]]] = []

    def publish_all(self, blocks: Sequence[int], done: Callable[[], None]) -> None:
        self.publish(0, blocks, done)

    def publish(self, layer: int, blocks: Sequence[int], done: Callable[[], None]) -> None:
        self.under_way.append((blocks, done))

    def settle(self) -> None:
        while self.under_way:
            self.under_way.pop(0)[1]()

    def fetch(self, blocks: Sequence[int]) -> None:
        """It is there."""


class HonestSidecar:
    """What the engine told its sidecar: blocks that it may touch, by transfer, until it says so."""

    def __init__(self) -> None:
        self.epoch = 0
        self.touched: dict[str, tuple[int, ...]] = {}
        self.receives: set[str] = set()
        self.readable: set[str] = set()
        self.finished: set[str] = set()
        self.tells_pushed: set[str] = set()
        self.closing: set[str] = set()
        self.probed: tuple[int, ...] = ()

    def send(self, epoch: int, message: kv_pb2.FromWorkerToSidecar) -> bool:
        """As the link does: nothing is delivered to another attachment."""
        if epoch != self.epoch or epoch == 0:
            return False
        match message.WhichOneof("kind"):
            case "open_lease":
                self._open(message.open_lease.transfer_id, message.open_lease.blocks)
                self.receives.add(message.open_lease.transfer_id)
            case "start_transfer":
                self._open(message.start_transfer.transfer_id, message.start_transfer.blocks)
                if message.start_transfer.tell_pushed:
                    self.tells_pushed.add(message.start_transfer.transfer_id)
            case "layers_ready":
                self.readable.add(message.layers_ready.transfer_id)
            case "finish_transfer":
                self.finished.add(message.finish_transfer.transfer_id)
            case "start_probe":
                assert not self.probed, "a probe is started twice"
                self.probed = (message.start_probe.block,)
            case "close_lease":
                self.closing.add(message.close_lease.transfer_id)
            case "withdraw_transfer":
                self.closing.add(message.withdraw_transfer.transfer_id)
        return True

    def _open(self, transfer: str, blocks: Sequence[int]) -> None:
        assert transfer not in self.touched, "a transfer is opened twice"
        self.touched[transfer] = tuple(blocks)

    def end(self, transfer: str) -> None:
        """It touches these blocks no more."""
        for of_it in (
            *(self.receives, self.readable, self.finished),
            *(self.closing, self.tells_pushed),
        ):
            of_it.discard(transfer)
        del self.touched[transfer]

    def die(self) -> None:
        """It touches nothing any more."""
        self.epoch = 0
        self.probed = ()
        for transfer in list(self.touched):
            self.end(transfer)
