"""From which length on a prompt's KV is pushed by layer."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.handover import layerwise_min_tokens

LLAMA_3_8B = 131_072  # bytes of KV a token, in 32 layers
LLAMA_3_70B = 327_680  # in 80


@pytest.mark.parametrize(
    ("layers", "token_bytes", "line_gbit", "cost_us", "tokens"),
    [
        pytest.param(32, LLAMA_3_8B, 25, 10, 8, id="a slow link is worth hiding at once"),
        pytest.param(32, LLAMA_3_8B, 400, 50, 580, id="a quick link, a dear signal: long prompts"),
        pytest.param(80, LLAMA_3_70B, 400, 50, 569, id="as many for a larger model"),
        pytest.param(32, LLAMA_3_8B, 100, 0, 1, id="what costs nothing is done always"),
        pytest.param(1, LLAMA_3_8B, 100, 1, inf, id="one layer hides nothing"),
    ],
)
def test_where_the_switch_is(
    layers: int, token_bytes: int, line_gbit: float, cost_us: float, tokens: float
) -> None:
    link = 0.92 * line_gbit / 8 * 1e9
    assert layerwise_min_tokens(layers, token_bytes, link, cost_us / 1e6) == tokens


@given(
    layers=st.integers(2, 128),
    token_bytes=st.integers(1, 1 << 24),
    link=st.floats(1e6, 1e12),
    cost_s=st.floats(0, 1e-2),
    tokens=st.integers(1, 100_000),
)
def test_from_there_on_and_only_there_it_ends_sooner(
    layers: int, token_bytes: int, link: float, cost_s: float, tokens: int
) -> None:
    """A prompt that is longer than its transfer: what is seen of the transfer, either way."""
    at_end_s = tokens * token_bytes / link
    by_layer_s = at_end_s / layers + layers * cost_s
    is_layerwise = tokens >= layerwise_min_tokens(layers, token_bytes, link, cost_s)
    slack_s = 1e-9 * at_end_s + (token_bytes / link if is_layerwise else 0)
    if is_layerwise:
        assert by_layer_s <= at_end_s + slack_s
    else:
        assert by_layer_s >= at_end_s - token_bytes / link - slack_s
