"""What a worker tells at /load of what it has done and holds."""

import json
from dataclasses import asdict

from splitwise_core.policy.scaling import Held, WorkerLoad, reading
from splitwise_worker.load_meter import page
from tests.worker.support import LENGTH, Rig, prompt


def load_of(rig: Rig) -> WorkerLoad:
    return rig.metrics.load.load(life=7, block_tokens=LENGTH, num_blocks=4, max_sequences=8)


def test_what_waits_is_computed_decodes_and_is_counted(rig: Rig) -> None:
    rig.prefill(1, prompt(20), max_tokens=3)
    rig.prefill(2, prompt(30), max_tokens=3)
    rig.turn()
    begun = load_of(rig)
    assert (begun.prompts_total, begun.prompt_tokens_total, begun.taken) == (2, 50, 2)
    assert begun.kv_taken == 2 * LENGTH
    rig.settle()
    done = load_of(rig)
    assert (done.queued_tokens, done.waiting, done.taken) == (0, 0, 0)
    assert (done.steps_total, done.step_tokens_total) == (2, 4)
    assert (sum(done.ttft_counts), sum(done.tbt_counts)) == (2, 4)
    _, memory = reading({}, {"w": begun}, 0, Held(), 0.0, -2.0)
    now, _ = reading(memory, {"w": done}, 0, Held(), 2.0, 0.0)
    assert (now.arrived_tokens, now.step_tokens) == (0, 4)


def test_room_for_what_arrives_is_reserved(rig: Rig) -> None:
    rig.decode(1, prompt(20), "t-1", max_tokens=3)
    rig.turn()
    assert (load_of(rig).reserved, load_of(rig).kv_reserved) == (1, LENGTH)
    rig.verified("t-1")
    rig.turn()
    assert (load_of(rig).reserved, load_of(rig).taken) == (0, 1)


def test_a_prompt_that_is_done_and_not_handed_over_asks_for_nothing(rig: Rig) -> None:
    rig.prefill(1, prompt(20), "t-1", max_tokens=3)
    rig.settle()
    said = load_of(rig)
    assert (said.queued_tokens, said.waiting, said.taken, said.reserved) == (0, 0, 0, 0)
    assert rig.blocks.free_blocks < 4


def test_the_page_is_the_load_as_json(rig: Rig) -> None:
    said = load_of(rig)
    assert json.loads(page(said)) == json.loads(json.dumps(asdict(said)))
