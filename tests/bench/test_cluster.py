"""What the set-ups share out, and what the synthetic trace is like."""

from pathlib import Path
from statistics import median, quantiles

import pytest

from bench.cluster.burst import BURST_S, LONG, SECONDS, STEADY_SHARE, arrivals
from bench.cluster.load import Trace
from bench.cluster.setups import setups
from bench.cluster.synthetic import LONGEST, OUTPUT, PROMPT, trace
from splitwise_core.trace import Arrival, write_trace


@pytest.mark.parametrize("cores", [2, 3, 4, 7, 64])
def test_each_set_up_has_all_cores_and_both_phases(cores: int) -> None:
    for setup in setups(cores).values():
        roles = setup.workers
        beyond = cores == 2 and len(roles) == 3  # then the mixed worker goes where one is idle
        assert sum(roles.values()) == cores + beyond
        assert min(roles.values()) > 0
        assert "mixed" in roles or {"prompt", "token"} <= roles.keys()


@pytest.mark.parametrize("which", ["prompt_tokens", "output_tokens"])
def test_synthetic_lengths_are_those_that_were_published(which: str) -> None:
    lengths = [getattr(arrival, which) for arrival in trace(20_000, seed=3)]
    wanted, most = (PROMPT, LONGEST[0]) if which == "prompt_tokens" else (OUTPUT, LONGEST[1])
    assert median(lengths) == pytest.approx(wanted[0], rel=0.05)
    assert quantiles(lengths, n=10)[8] == pytest.approx(wanted[1], rel=0.05)
    assert 1 <= min(lengths) <= max(lengths) <= most


def test_a_trace_is_replayed_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("".join(write_trace(Arrival(4.0 * number, 9, 9) for number in range(50))))
    options = Trace(file, length_scale=0.5).options(rate=2.0, seconds=10)
    assert float(options[options.index("--time-scale") + 1]) == pytest.approx(1 / 8)


@pytest.mark.parametrize("prompt_s", [0.05, 0.7])
def test_a_burst_is_as_much_work_whatever_a_prompt_takes(prompt_s: float) -> None:
    load = arrivals(prompt_s)
    token_s = prompt_s / LONG
    long = [arrival for arrival in load if arrival.prompt_tokens == LONG]
    short_s = sum(a.prompt_tokens for a in load if a.prompt_tokens < LONG) * token_s
    assert len(long) * prompt_s == pytest.approx(BURST_S, rel=0.05)
    assert short_s == pytest.approx(STEADY_SHARE * SECONDS, rel=0.25)
    assert load == sorted(load, key=lambda arrival: arrival.at_s)
