"""A worker takes work once KV has reached it through its own door: INV-11."""

from tests.worker.conftest import MakeRig
from tests.worker.support import EXPIRED, PEER, PEER_LOST, Rig, commands, kv_pb2, prompt


def attach_anew(rig: Rig) -> None:
    """The sidecar is gone, and another is there."""
    rig.engine.submit(commands.SidecarLost())
    rig.hear(attached=kv_pb2.Attached(outcome=kv_pb2.OK, epoch=5))
    rig.turn()


def lent(rig: Rig) -> float:
    return rig.sample("splitwise_kv_blocks", state="reserved")


def test_a_sidecar_that_is_attached_tries_the_door_with_a_block_of_ours(rig: Rig) -> None:
    attach_anew(rig)
    (message,) = rig.sidecar.heard()
    assert message.start_probe.peer == PEER
    assert (rig.load.ready, rig.load.free_blocks, lent(rig)) == (False, 3, 1)
    assert rig.engine.not_ready() == "the KV probe is under way"
    rig.probed()
    rig.turn()
    assert (rig.load.ready, rig.load.free_blocks, lent(rig)) == (True, 4, 0)
    assert rig.engine.not_ready() is None


def test_a_probe_that_fails_is_told_and_keeps_its_block_until_it_passes(rig: Rig) -> None:
    attach_anew(rig)
    for outcome, why in ((PEER_LOST, "refused"), (EXPIRED, "5 s")):
        rig.probed(outcome, why)
        rig.turn()
        assert (rig.load.ready, rig.blocks.free_blocks) == (False, 3)
    assert rig.engine.not_ready() == "KV probe failed: expired: 5 s"
    rig.probed()
    rig.turn()
    assert (rig.load.ready, rig.blocks.free_blocks) == (True, 4)


def test_a_lost_sidecar_gives_the_block_back_and_its_probe_counts_no_more(rig: Rig) -> None:
    attach_anew(rig)
    rig.engine.submit(commands.SidecarLost())
    rig.turn()
    assert (rig.load.ready, rig.blocks.free_blocks) == (False, 4)
    assert rig.engine.not_ready() == "no sidecar is attached"
    attach_anew(rig)
    assert rig.engine.not_ready() == "the KV probe is under way"


def test_a_probe_waits_until_there_is_a_block(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=1)
    rig.prefill(1, prompt(5), max_tokens=3)
    rig.turn()
    attach_anew(rig)
    assert (rig.told(), rig.blocks.free_blocks) == ([], 0)
    rig.settle()
    rig.turn()
    assert (rig.told(), rig.blocks.free_blocks) == (["start_probe"], 0)
