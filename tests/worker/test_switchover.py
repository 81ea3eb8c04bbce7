"""Short prompts over quick links are pushed once, at their end; what decides is measured."""

from splitwise_core.kv import KvGeometry
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.switchover import MAX_PEERS, Switchover
from tests.worker.support import PEER, Rig, prompt

GEOMETRY = KvGeometry("m", "bfloat16", 32, 8, 128, 16)  # Llama-3-8B: 128 KiB a token
QUICK = 46e9  # bytes/s: 400 Gbit/s


def test_a_link_nobody_knows_is_tried_by_layer() -> None:
    assert Switchover(GEOMETRY).is_layerwise("p:1", 1)


def test_a_quick_link_and_a_dear_signal_are_for_long_prompts() -> None:
    switchover = Switchover(GEOMETRY)
    switchover.pushed("p:1", int(QUICK), 1.0)
    switchover.told(50e-6)
    assert switchover.min_tokens == 1, "nobody has asked yet"
    assert not switchover.is_layerwise("p:1", 500)
    assert switchover.is_layerwise("p:1", 600)
    assert 500 < switchover.min_tokens <= 600


def test_another_peer_has_another_link() -> None:
    switchover = Switchover(GEOMETRY)
    switchover.pushed("near:1", int(QUICK), 1.0)
    switchover.pushed("far:1", int(QUICK / 100), 1.0)
    switchover.told(50e-6)
    assert not switchover.is_layerwise("near:1", 100)
    assert switchover.is_layerwise("far:1", 100)


def test_what_is_measured_counts_more_the_newer_it_is() -> None:
    switchover = Switchover(GEOMETRY)
    switchover.told(50e-6)
    switchover.pushed("p:1", int(QUICK), 1.0)
    assert not switchover.is_layerwise("p:1", 100)
    for _ in range(40):  # the link has become slow
        switchover.pushed("p:1", int(QUICK / 100), 1.0)
    assert switchover.is_layerwise("p:1", 100)


def test_only_so_many_links_are_remembered() -> None:
    switchover = Switchover(GEOMETRY)
    switchover.told(50e-6)
    for number in range(MAX_PEERS + 1):
        switchover.pushed(f"p:{number}", int(QUICK), 1.0)
    assert switchover.is_layerwise("p:0", 1), "the first was forgotten"
    assert not switchover.is_layerwise("p:1", 1)


# ---- what the engine does with it ----


def test_the_layers_of_a_short_prompt_are_told_of_together(rig: Rig, decoder: Decoder) -> None:
    layers = decoder.config.num_layers
    rig.switchover.told(1.0)
    rig.switchover.pushed(PEER, 1 << 40, 1.0)
    rig.prefill(1, prompt(20), transfer="t")
    rig.settle()
    assert rig.told() == ["start_transfer", f"layers 0 to {layers - 1}", "finish_transfer"]


def test_the_layers_of_a_long_prompt_are_told_of_as_they_are_there(
    rig: Rig, decoder: Decoder
) -> None:
    rig.prefill(1, prompt(20), transfer="t")
    rig.settle()
    layers = [f"layer {number}" for number in range(decoder.config.num_layers)]
    assert rig.told() == ["start_transfer", *layers, "finish_transfer"]
