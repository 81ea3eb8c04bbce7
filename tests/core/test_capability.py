"""INV-15: nobody makes or changes a capability without a key, and it is good for one thing only."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.capability import (
    MAX_BYTES,
    Capability,
    NotAllowed,
    Refusal,
    is_sealed,
    mint,
    parse_keys,
    read,
    seal,
)

NAMES = st.text(max_size=80)
CAPABILITIES = st.builds(
    Capability,
    transfer_id=NAMES,
    request_id=NAMES,
    prompt_worker=NAMES,
    token_worker=NAMES,
    num_tokens=st.integers(0, 2**32 - 1),
    not_after_unix_ms=st.integers(0, 2**62),
)
KEYS = st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=4, unique=True).map(tuple)
ONE = Capability("t", "r", "prompt-0", "token-0", 100, 5_000)
KEY = (bytes(32),)
NOT_EVEN_ONE = {Refusal.MISSING, Refusal.MALFORMED, Refusal.FORGED}


def refusal(act: Callable[[], object]) -> Refusal:
    with pytest.raises(NotAllowed) as caught:
        act()
    return caught.value.reason


# ---- made and read ----


@given(CAPABILITIES, KEYS)
def test_what_was_made_is_what_is_read(made: Capability, keys: tuple[bytes, ...]) -> None:
    assert read(mint(made, keys), keys) == made


@given(CAPABILITIES, CAPABILITIES)
def test_no_two_capabilities_look_alike(one: Capability, other: Capability) -> None:
    assert (mint(one, KEY) == mint(other, KEY)) == (one == other)


@given(CAPABILITIES, st.data())
def test_no_bit_of_it_can_be_changed(made: Capability, data: st.DataObject) -> None:
    token = bytearray(mint(made, KEY))
    bit = data.draw(st.integers(0, 8 * len(token) - 1))
    token[bit // 8] ^= 1 << bit % 8
    expected = Refusal.MALFORMED if bit < 8 else Refusal.FORGED  # the first byte is the version
    assert refusal(lambda: read(bytes(token), KEY)) is expected


@given(CAPABILITIES, st.data())
def test_nothing_can_be_cut_off_it_or_put_to_it(made: Capability, data: st.DataObject) -> None:
    token = mint(made, KEY)
    shorter = token[: data.draw(st.integers(0, len(token) - 1))]
    longer = token + data.draw(st.binary(min_size=1, max_size=40))
    assert refusal(lambda: read(shorter, KEY)) in NOT_EVEN_ONE
    assert refusal(lambda: read(longer, KEY)) is Refusal.FORGED


@given(st.binary(max_size=200))
def test_noise_is_no_capability(noise: bytes) -> None:
    assert refusal(lambda: read(noise, KEY)) in NOT_EVEN_ONE


@given(st.binary(max_size=200))
def test_even_a_key_holders_nonsense_is_refused(body: bytes) -> None:
    body = b"\x01" + body
    token = body + seal(KEY[0], b"splitwise capability", body)
    try:
        found = read(token, KEY)
    except NotAllowed as error:
        found, reason = None, error.reason
    assert mint(found, KEY) == token if found else reason is Refusal.MALFORMED


def test_what_is_too_long_is_not_even_looked_at() -> None:
    huge = mint(replace(ONE, request_id="r" * MAX_BYTES), KEY)
    assert refusal(lambda: read(huge, KEY)) is Refusal.MALFORMED


def test_a_capability_is_missing_when_nothing_is_shown() -> None:
    assert refusal(lambda: read(b"", KEY)) is Refusal.MISSING


# ---- keys ----


@given(CAPABILITIES, KEYS)
def test_a_foreign_key_is_no_key(made: Capability, keys: tuple[bytes, ...]) -> None:
    assert refusal(lambda: read(mint(made, keys), keys[1:])) is Refusal.FORGED


@given(CAPABILITIES, KEYS)
def test_keys_change_without_a_gap(made: Capability, keys: tuple[bytes, ...]) -> None:
    """The new key is known everywhere before it makes anything, and the old one leaves last."""
    old, new = keys[:1], keys[1:2]
    steps = [old, old + new, new + old, new]
    for before, after in pairwise(steps):
        for router, sidecar in ((before, after), (after, before)):
            assert read(mint(made, router), sidecar) == made


@given(KEYS, st.lists(st.binary(max_size=9), min_size=1, max_size=4))
def test_a_mac_is_for_one_purpose_and_for_parts_with_their_borders(
    keys: tuple[bytes, ...], parts: list[bytes]
) -> None:
    mac = seal(keys[0], b"this", *parts)
    assert is_sealed(mac, keys, b"this", *parts)
    assert not is_sealed(mac, keys, b"that", *parts)
    assert not is_sealed(mac, keys, b"this", *parts, b"")
    assert not is_sealed(mac, keys, b"this" + parts[0], *parts[1:])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "0 keys", id="no key"),
        pytest.param("\n \n", "0 keys", id="only empty lines"),
        pytest.param("ab" * 31, "line 1", id="a short key"),
        pytest.param("ab" * 32 + "\n" + "xy" * 32, "line 2", id="no hexadecimal digits"),
        pytest.param("\n".join(["ab" * 32] * 9), "9 keys", id="too many"),
    ],
)
def test_a_file_without_good_keys_says_where_and_repeats_nothing(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_keys(text)
    assert "abab" not in str(caught.value)
    assert "xyxy" not in str(caught.value)


def test_keys_are_read_in_order() -> None:
    assert parse_keys(f"{'02' * 32}\n\n{'01' * 33}\n") == (b"\x02" * 32, b"\x01" * 33)


# ---- good for one thing ----


def test_it_is_good_for_what_it_says_until_the_last_moment() -> None:
    ONE.check_call("t", "prompt-0", "token-0", 5_000)
    ONE.check_lease("r", 100)


@given(CAPABILITIES, CAPABILITIES)
def test_a_field_that_differs_is_named(made: Capability, asked: Capability) -> None:
    reasons = {
        "transfer_id": Refusal.OTHER_TRANSFER,
        "prompt_worker": Refusal.OTHER_PROMPT_WORKER,
        "token_worker": Refusal.OTHER_TOKEN_WORKER,
        "request_id": Refusal.OTHER_REQUEST,
        "num_tokens": Refusal.OTHER_SIZE,
    }
    assert reasons.keys() | {"not_after_unix_ms"} == {field.name for field in fields(made)}
    for name, reason in reasons.items():
        other = replace(made, **{name: getattr(asked, name)})

        def ask(other: Capability = other) -> None:
            made.check_call(other.transfer_id, other.prompt_worker, other.token_worker, 0)
            made.check_lease(other.request_id, other.num_tokens)

        if other == made:
            ask()
        else:
            assert refusal(ask) is reason


@given(CAPABILITIES, st.integers(1, 2**62))
def test_it_is_good_for_nothing_afterwards(made: Capability, late_ms: int) -> None:
    call = (made.transfer_id, made.prompt_worker, made.token_worker)
    now = made.not_after_unix_ms + late_ms
    assert refusal(lambda: made.check_call(*call, now)) is Refusal.LATE
