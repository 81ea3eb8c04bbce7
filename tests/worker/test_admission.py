"""What routers may ask: everything else is refused by name, before it touches anything."""

import math
from typing import Any

import pytest

from splitwise_core.rpc import worker_pb2
from splitwise_worker import commands
from tests.worker.support import (
    EXPIRED,
    FAILURE,
    INVALID,
    LENGTH,
    VOCAB,
    WALL_S,
    Rig,
    prompt,
    request,
)

NAN, INF = math.nan, math.inf
HUGE = 2**32 - 1

NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({"tokens": []}, "no tokens"),
    "a prompt beyond the context": ({"tokens": prompt(LENGTH)}, "exceed the context of 64"),
    "an output beyond the context": ({"max_tokens": HUGE}, "exceed the context of 64"),
    "no output at all": ({"max_tokens": 0}, "nothing is left"),
    "an output that is there already": ({"output": [1, 2, 3, 4]}, "nothing is left"),
    "a prompt token outside the vocabulary": ({"tokens": [1, VOCAB]}, "prompt_tokens: 1000 is"),
    "an output token outside the vocabulary": ({"output": [HUGE]}, "output_tokens: "),
    "a stop token outside the vocabulary": ({"stop_token_ids": [VOCAB]}, "stop_token_ids: "),
    "a bias outside the vocabulary": ({"logit_bias": {VOCAB: 1.0}}, "logit_bias: 1000 is"),
    "a bias that is not a number": ({"logit_bias": {1: NAN}}, "logit_bias"),
    "a bias without end": ({"logit_bias": {1: INF}}, "logit_bias"),
    "a temperature that is not a number": ({"temperature": NAN}, "temperature"),
    "a temperature without end": ({"temperature": INF}, "temperature"),
    "a negative temperature": ({"temperature": -1.0}, "temperature"),
    "a top_p that is not a number": ({"top_p": NAN}, "top_p"),
    "a top_p of nothing": ({"top_p": 0.0}, "top_p"),
    "a min_p that is not a number": ({"min_p": NAN}, "min_p"),
    "a repetition penalty of nothing": ({"repetition_penalty": 0.0}, "repetition_penalty"),
    "a presence penalty that is not a number": ({"presence_penalty": NAN}, "presence_penalty"),
    "a frequency penalty without end": ({"frequency_penalty": -INF}, "frequency_penalty"),
    "more logprobs than anybody reads": ({"logprobs": HUGE}, "logprobs"),
}


def put(rig: Rig, kind: str, message: worker_pb2.Request, **transfer: Any) -> None:
    where = worker_pb2.Transfer(**transfer)
    if kind == "decode":
        rig.engine.submit(commands.Decode(1, worker_pb2.Decode(request=message, transfer=where)))
    else:
        asked = worker_pb2.Prefill(request=message, transfer=where if transfer else None)
        rig.engine.submit(commands.Prefill(1, asked))


def refused(rig: Rig) -> str:
    """Asserts that sequence 1 was refused and left nothing behind; why."""
    rig.settle()
    assert rig.end(1) == (FAILURE, INVALID)
    assert (rig.blocks.free_blocks, len(rig.scheduler), rig.told()) == (4, 0, [])
    return rig.updates(1)[-1].detail


@pytest.mark.parametrize("kind", ["prefill", "decode"])
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_is_refused_with_the_name_of_what_is_wrong(rig: Rig, kind: str, nonsense: str) -> None:
    asked, why = NONSENSE[nonsense]
    message = request(1, **({"tokens": prompt(5)} | asked))
    put(rig, kind, message, **({"transfer_id": "t"} if kind == "decode" else {}))
    assert why in refused(rig)


@pytest.mark.parametrize(
    "transfer",
    [
        pytest.param({"peer": "a:1"}, id="no id"),
        pytest.param({"transfer_id": "x" * 257, "peer": "a:1"}, id="an id of 257 characters"),
        pytest.param({"transfer_id": "x" * 200_000, "peer": "a:1"}, id="an id above a datagram"),
        pytest.param({"transfer_id": "t", "peer": ""}, id="no peer"),
        pytest.param({"transfer_id": "t", "peer": "somewhere"}, id="a peer without a port"),
        pytest.param({"transfer_id": "t", "peer": "a" * 260 + ":1"}, id="a peer of 262 characters"),
        pytest.param(
            {"transfer_id": "t", "peer": "a:1", "capability": bytes(4097)},
            id="a capability of 4097 bytes",
        ),
    ],
)
def test_a_transfer_that_a_sidecar_would_hang_up_on_never_gets_there(
    rig: Rig, transfer: dict[str, Any]
) -> None:
    put(rig, "prefill", request(1, prompt(5)), **transfer)
    refused(rig)


def test_neither_does_a_requests_id_that_is_too_long(rig: Rig) -> None:
    message = request(1, prompt(5))
    message.request_id = "r" * 257
    put(rig, "decode", message, transfer_id="t")
    assert "request's id" in refused(rig)


def test_a_decode_without_a_transfer_is_refused(rig: Rig) -> None:
    put(rig, "decode", request(1, prompt(5)))
    assert "id" in refused(rig)


@pytest.mark.parametrize(
    "deadline_unix_ms",
    [0, -1, -(2**63), int(WALL_S * 1000)],
    ids=["none at all", "negative", "the least number there is", "just now"],
)
def test_a_deadline_that_has_passed_is_told_at_once(rig: Rig, deadline_unix_ms: int) -> None:
    message = request(1, prompt(5))
    message.deadline_unix_ms = deadline_unix_ms
    put(rig, "prefill", message)
    assert not rig.turn()
    assert rig.end(1) == (FAILURE, EXPIRED)


def test_a_deadline_at_the_end_of_time_and_the_largest_numbers_are_fine(rig: Rig) -> None:
    message = request(2**64 - 1, prompt(5), seed=2**64 - 1, temperature=3e38, top_k=HUGE)
    message.deadline_unix_ms = 2**63 - 1
    put(rig, "prefill", message)
    rig.settle()
    assert len(rig.tokens(2**64 - 1)) == 4


@pytest.mark.parametrize(
    "asked",
    [
        {"repetition_penalty": 1e-45},
        {"repetition_penalty": 3e38, "frequency_penalty": 3e38, "presence_penalty": -3e38},
        {"logit_bias": {7: 3e38, 8: 3e38, 9: -3e38}},
        {"temperature": 1e-45, "logit_bias": {7: 3e38}},
        {"min_p": 1.0, "top_p": 1e-38, "top_k": 1},
    ],
    ids=lambda asked: ", ".join(asked),
)
def test_extreme_but_finite_sampling_gives_tokens(rig: Rig, asked: dict[str, Any]) -> None:
    message = request(1, prompt(5), **({"temperature": 1.0} | asked))
    put(rig, "prefill", message)
    rig.settle()
    assert len(rig.tokens(1)) == 4
