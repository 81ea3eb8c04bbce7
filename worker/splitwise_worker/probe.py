"""Whether KV can reach this worker: its sidecar tries, once an attachment, with a block of ours."""

from typing import Final

from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.rpc import kv_pb2
from splitwise_worker.handover import Handover

UNDER_WAY: Final = "the KV probe is under way"


class Probe:
    """The probe of the present attachment. `blocks` are lent to the sidecar until it has passed.

    The sidecar repeats what fails by itself; it lets go of the block when a try has passed, or when
    it is gone.
    """

    def __init__(self, pool: BlockPool, handover: Handover, address: str) -> None:
        self.blocks: tuple[int, ...] = ()
        self.passed = False
        self.said = UNDER_WAY  # why not, for people
        self._pool = pool
        self._handover = handover
        self._address = address  # where peers find our sidecar
        self._due = False

    def attached(self) -> None:
        """A sidecar has the pool: what an earlier one has shown counts no more."""
        assert not self.blocks
        self.passed, self.said, self._due = False, UNDER_WAY, True

    def lost(self) -> None:
        """The sidecar touches nothing any more."""
        self._give_back()
        self.passed = self._due = False

    def begin_if_due(self) -> None:
        """Begins as soon as there is a block: after a sidecar's loss all may be in use."""
        if self._due and self._pool.can_allocate(1):
            self._due = False
            self.blocks = self._pool.allocate(1)
            self._handover.start_probe(self.blocks[0], self._address)

    def hear(self, ended: kv_pb2.ProbeEnded) -> None:
        """One try has ended."""
        if ended.outcome == kv_pb2.OK:
            self._give_back()
            self.passed = True
        else:
            why = kv_pb2.Outcome.Name(ended.outcome).lower()
            self.said = f"KV probe failed: {why}: {ended.detail}"

    def _give_back(self) -> None:
        self._pool.release(self.blocks)
        self.blocks = ()
