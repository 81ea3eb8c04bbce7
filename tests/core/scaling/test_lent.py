"""Prompts on borrowed workers are work of the prompt pools, and make them grow."""

from splitwise_core.policy.mixing import Mixing
from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import Counts, Reading, Reason
from splitwise_core.policy.scaling.signals import with_lent
from tests.core.scaling.test_virtual_time import arrivals, fleet, ups
from tests.core.scaling.world import PROMPT, alone, prompts, tokens

ROLES = {"a": Role.PROMPT, "b": Role.PROMPT, "t": Role.TOKEN, "m": Role.MIXED}


def test_what_token_workers_compute_is_shared_out_among_prompt_pools() -> None:
    said: dict[str, Reading | None] = {
        "a": prompts(1),
        "b": None,
        "t": tokens(2, 0.5, arrived_tokens=900, queued_tokens=300),
        "m": prompts(1, 1.0),
    }
    made = with_lent(said, ROLES)
    one = made["a"]
    assert one is not None
    assert (one.arrived_tokens, one.lent_tokens, one.queued_tokens) == (900, 900, 300)
    assert (made["b"], made["t"], made["m"]) == (None, said["t"], said["m"])
    assert with_lent({**said, "t": tokens(2, 0.5)}, ROLES)["a"] == said["a"]


def test_a_pool_that_could_not_do_its_work_alone_grows_though_little_waits() -> None:
    counts = Counts(2, 2)
    assert alone(PROMPT, counts, prompts(2, 2.6, 0.2)).reason is Reason.IN_BAND
    made = alone(PROMPT, counts, prompts(2, 2.6, 0.2, lent_tokens=1000))
    assert (made.replicas, made.reason) == (4, Reason.BACKLOG_HIGH)
    enough = alone(PROMPT, counts, prompts(2, 1.6, 0.2, lent_tokens=1000))
    assert enough.replicas == 2, "it could: a burst is what borrowing is for"


def test_a_load_that_is_too_much_grows_the_prompt_pool_while_it_borrows() -> None:
    load = arrivals(lambda s: 0.5 if s < 60 else 3.0, 400.0, prompt=900, output=20)
    done = fleet(load, prompt=2, token=3, mixing=Mixing(borrowing=True)).run(400.0)
    assert sum(worker.duty.loans for worker in done.workers) > 0
    assert done.pools["prompt"].desired >= 3
    assert ups(done, "prompt")[0].at_s < 120
