"""Whose the lease is."""

import pytest

from splitwise_operator.leader import may_take

HELD = {"holderIdentity": "a", "leaseDurationSeconds": 15}


@pytest.mark.parametrize(
    ("spec", "identity", "unchanged_s", "expected"),
    [
        pytest.param({}, "b", 0, True, id="a new one is anybody's"),
        pytest.param(HELD | {"holderIdentity": ""}, "b", 0, True, id="so is one given up"),
        pytest.param(HELD, "a", 0, True, id="its holder renews it, or comes back"),
        pytest.param(HELD, "b", 14, False, id="another waits"),
        pytest.param(HELD, "b", 16, True, id="until it was not renewed for its time"),
    ],
)
def test_lease(spec: dict[str, object], identity: str, unchanged_s: float, expected: bool) -> None:
    assert may_take(spec, identity, unchanged_s) is expected
