"""Links that break in virtual time: what was on its way begins again, by another link."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis.strategies import builds, floats, integers, sampled_from

from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured.broken_links import RETRY_S, Break, breaks_of
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import RETRIES, Faults
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import by_request, measured_rules, trace_of, traces

FOREVER_S = 1e6
ONE = trace_of((0.0, 1000, 20))


def run(trace: Trace, design: str, *breaks: Break) -> tuple[Outcome, Used]:
    parsed = parse_design(design, load_catalog())
    return simulate(trace, parsed, measured_rules(design), breaks=breaks)


def test_it_hears_of_a_link_that_works_again_as_routers_do() -> None:
    from splitwise_router.links import RETRY_S as ON_ROUTERS

    assert RETRY_S == ON_ROUTERS


def test_a_request_whose_transfer_is_lost_goes_on_by_another_link() -> None:
    """With the token that its client has: its prompt is computed again, nothing is said twice."""
    calm, _ = run(ONE, "HH-1P-2T")
    outcome, used = run(ONE, "HH-1P-2T", Break(0.0, 0, 0, FOREVER_S))
    prompt_s = measured_rules("HH-1P-2T").prompt.prompt.seconds(1001, 1001)
    assert (used.lost_transfers, used.retries, used.given_up) == (1, 1, 0)
    assert outcome.ttft_s[0] == calm.ttft_s[0]
    assert outcome.e2e_s[0] - calm.e2e_s[0] == pytest.approx(prompt_s, rel=0.3)


def test_once_a_transfer_was_lost_no_other_is_sent_that_way() -> None:
    trace = trace_of(*((2.0 * i, 1000, 5) for i in range(20)))
    _, used = run(trace, "HH-1P-2T", Break(0.0, 0, 0, FOREVER_S))
    assert used.lost_transfers == 1


def test_a_link_that_works_again_is_used_again_when_it_was_measured() -> None:
    """Two requests at a time, each of which decodes on a token worker of its own, if it can."""
    back_s = 100.0
    pairs_s = (0.0, back_s + RETRY_S - 2, back_s + RETRY_S + 20)
    trace = trace_of(*((at_s, 1000, 60) for at_s in pairs_s for _ in range(2)))
    calm, broken = (
        by_request(run(trace, "HH-1P-2T", *breaks)[0], "e2e_s")
        for breaks in ((), (Break(0.0, 0, 0, back_s),))
    )
    assert max(broken[2:4]) > max(calm[2:4]), "on one worker: routers have not heard yet"
    assert broken[4:] == pytest.approx(calm[4:]), "as if nothing had been"


def test_without_another_link_a_request_is_given_up_after_as_many_attempts_as_on_routers() -> None:
    outcome, used = run(ONE, "HH-1P-1T", Break(0.0, 0, 0, FOREVER_S))
    assert (outcome.unfinished, used.given_up) == (1, 1)
    assert (used.retries, used.lost_transfers) == (RETRIES, RETRIES + 1)


def test_what_stays_on_its_worker_needs_no_link() -> None:
    trace = trace_of((0.0, 1000, 1))
    _, used = run(trace, "HH-1P-1T", Break(0.0, 0, 0, FOREVER_S))
    assert used.lost_transfers == 0


def test_a_machines_link_is_that_of_all_its_workers() -> None:
    """Two workers of four GPUs on each token machine, of which the first cannot be reached."""
    trace = trace_of(*((0.0, 1000, 40) for _ in range(4)))
    design = "HH/4-1P-2T"
    parsed = parse_design(design, load_catalog())
    rules = measured_rules(design, "llama2-70b")
    outcome, used = simulate(trace, parsed, rules, breaks=[Break(0.0, 0, 0, FOREVER_S)])
    assert outcome.unfinished == 0
    assert 1 <= used.lost_transfers <= 4


def test_links_that_do_not_break_change_no_digit() -> None:
    calm, _ = run(ONE, "HH-1P-2T")
    other, _ = run(ONE, "HH-1P-2T", Break(0.0, 0, 1, FOREVER_S))
    assert calm.e2e_s.tobytes() == other.e2e_s.tobytes()


def test_a_machine_more_changes_the_breaks_of_no_other_link() -> None:
    faults = Faults(3600.0, 60.0, seed=7)
    few = breaks_of(faults, 2, 3, 0.0, 36_000.0)
    more = breaks_of(faults, 3, 4, 0.0, 36_000.0)
    assert [one for one in more if one.prompt < 2 and one.token < 3] == list(few)
    assert few != breaks_of(replace(faults, seed=8), 2, 3, 0.0, 36_000.0)


FAULTS = builds(Faults, floats(0.5, 60), floats(0.05, 30), integers(0, 99))


@settings(max_examples=30, deadline=None)
@given(trace=traces(), design=sampled_from(["HH-2P-2T", "HA-1P-1T", "HH-1P-3T"]), faults=FAULTS)
def test_whatever_breaks_each_request_ends_or_is_counted(
    trace: Trace, design: str, faults: Faults
) -> None:
    parsed = parse_design(design, load_catalog())
    breaks = breaks_of(faults, parsed.prompt, parsed.token, 0.0, float(trace.arrival_s.max()))
    outcome, used = run(trace, design, *breaks)
    assert len(outcome.request_id) + outcome.unfinished == len(trace)
    assert outcome.unfinished == used.given_up
    assert used.lost_transfers == used.retries + used.given_up
