"""Bursts and steady loads in virtual time: fixed pools, borrowed workers, and one worker for both.

The fleet of tests/support/virtual_fleet.py calls placement and batches as they are.
"""

import random
from collections.abc import Iterator, Mapping
from statistics import fmean, quantiles

import pytest

from splitwise_core.policy.duty import RETURN_S
from splitwise_core.policy.mixing import FIXED, Disaggregation, Mixing
from splitwise_core.policy.roles import Role
from tests.support.virtual_fleet import PoolOf, VirtualFleet
from tests.support.virtual_worker import Machine, Request

GPU = Machine(8000.0, step_base_s=0.025, step_slope_s=0.0002, kv_tokens=200_000, transfer_s=0.01)
"""A worker whose steps hardly grow with their sequences, and that a long prompt holds up."""

CPU = Machine(1000.0, 0.01, 0.01, kv_tokens=32768, max_sequences=32, transfer_s=0.004)
"""One that computes one sequence after the other: nothing is gained by decoding together."""

BORROWING = Mixing(borrowing=True)
AUTO = Mixing(borrowing=True, disaggregation=Disaggregation.AUTO)

Load = Iterator[tuple[float, int, int]]


def steady(rate: float, until_s: float, prompt: int, output: int) -> Load:
    """Requests at random times, of lengths that spread around these medians."""
    draw, at_s = random.Random(3), 0.0
    while (at_s := at_s + draw.expovariate(rate)) < until_s:
        spread = (draw.lognormvariate(0, 0.7) for _ in range(2))
        yield at_s, round(1 + next(spread) * prompt), round(1 + next(spread) * output)


def run(
    workers: Mapping[str, int], load: Load, machine: Machine, mixing: Mixing, until_s: float
) -> VirtualFleet:
    """Fixed numbers of workers; every request has ended."""
    pools = {name: PoolOf(Role[name.upper()], None, n, machine) for name, n in workers.items()}
    done = VirtualFleet(pools, sorted(load), mixing=mixing).run(until_s)
    assert all(request.done_s > 0 for request in done.requests), "nothing is lost"
    return done


def ttft_p99_s(requests: list[Request]) -> float:
    return quantiles([r.first_s - r.at_s for r in requests], n=100)[98]


def loans(done: VirtualFleet) -> int:
    return sum(worker.duty.loans for worker in done.workers)


@pytest.mark.parametrize("workers", [{"prompt": 2, "token": 4}, {"prompt": 1, "token": 3}])
def test_a_burst_of_long_prompts_waits_half_as_long_when_workers_are_borrowed(
    workers: Mapping[str, int],
) -> None:
    def burst() -> Load:
        yield from steady(3.0, 120.0, 800, 150)
        yield from ((40.0 + 0.05 * number, 6000, 20) for number in range(40))

    fixed, mixed = (run(workers, burst(), GPU, m, 300.0) for m in (FIXED, BORROWING))
    ratio = ttft_p99_s(fixed.requests) / ttft_p99_s(mixed.requests)
    assert ratio >= 2, f"P99 TTFT {ratio:.1f} times better"
    assert loans(fixed) == 0
    assert 1 <= loans(mixed) <= workers["token"] + 1, "each worker is borrowed about once"
    for worker in mixed.workers:
        worker.look(300.0 + RETURN_S)
        assert not worker.duty.is_borrowed, "all are back"


def test_a_load_around_the_limit_does_not_make_workers_come_and_go() -> None:
    done = run({"prompt": 2, "token": 2}, steady(3.0, 200.0, 4000, 100), GPU, BORROWING, 400.0)
    assert 0 < loans(done) < len(done.requests) / 10


def test_a_calm_cluster_borrows_nobody() -> None:
    done = run({"prompt": 2, "token": 2}, steady(4.0, 100.0, 1000, 150), GPU, BORROWING, 300.0)
    assert loans(done) == 0


@pytest.mark.parametrize(
    ("machine", "rate", "prompt", "output"),
    [
        pytest.param(CPU, 2.0, 127, 16, id="sequences that decode together gain nothing"),
        pytest.param(CPU, 2.0, 50, 40, id="long answers to short prompts"),
        pytest.param(GPU, 8.0, 300, 400, id="a token pool that is too small"),
        pytest.param(GPU, 4.0, 1000, 150, id="and where disaggregation wins"),
    ],
)
def test_auto_is_about_as_good_as_the_best_of_the_others(
    machine: Machine, rate: float, prompt: int, output: int
) -> None:
    each = 1 if machine is CPU else 2
    pools = {"prompt": each, "token": each}

    def e2e_s(workers: Mapping[str, int], mixing: Mixing) -> float:
        load = steady(rate, 200.0, prompt, output)
        done = run(workers, load, machine, mixing, 600.0)
        return fmean(request.done_s - request.at_s for request in done.requests)

    best_s = min(e2e_s(pools, FIXED), e2e_s({"mixed": 2 * each}, FIXED), e2e_s(pools, BORROWING))
    assert e2e_s(pools, AUTO) <= 1.05 * best_s
