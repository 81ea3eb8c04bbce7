"""From a router's message to a sequence, or to the reason why not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from splitwise_core.capability import MAX_BYTES
from splitwise_core.policy.fairness import Priority
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.sampling import SamplingParams
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

MAX_ID_CHARACTERS: Final = 256
MAX_PEER_CHARACTERS: Final = 259
"""A DNS name of 253 and a port. A sidecar hangs up on a message that it finds senseless, and all
transfers end: no router's text gets there unchecked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the loaded model allows."""

    max_model_len: int
    vocab_size: int


class Refused(Exception):
    """The request cannot run here; `outcome` says whether another worker could take it."""

    def __init__(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


def prefill_sequence(
    key: SequenceKey, message: worker_pb2.Prefill, limits: Limits, now_s: float, now_unix_s: float
) -> LiveSequence:
    """The sequence that `message` asks to compute. Raises Refused."""
    sequence = _sequence(key, message.request, Phase.WAITING, limits, now_s, now_unix_s)
    if message.HasField("transfer"):
        will_push(sequence, message.transfer)
    return sequence


def will_push(sequence: LiveSequence, transfer: worker_pb2.Transfer) -> None:
    """Names the transfer that takes the sequence's KV to a peer. Raises Refused, changing nothing.

    Its router has the peer's sidecar, and leave to push to it.
    """
    sequence.transfer_id, sequence.peer, sequence.capability = (
        _transfer_id(transfer),
        _peer(transfer),
        _capability(transfer),
    )


def decode_sequence(
    key: SequenceKey, message: worker_pb2.Decode, limits: Limits, now_s: float, now_unix_s: float
) -> LiveSequence:
    """The sequence whose KV will arrive by the transfer in `message`. Raises Refused."""
    sequence = _sequence(key, message.request, Phase.ARRIVING, limits, now_s, now_unix_s)
    sequence.transfer_id = _transfer_id(message.transfer)
    sequence.computed_tokens = sequence.num_tokens  # all of them arrive
    return sequence


def _sequence(
    key: SequenceKey,
    request: worker_pb2.Request,
    phase: Phase,
    limits: Limits,
    now_s: float,
    now_unix_s: float,
) -> LiveSequence:
    sampling = request.sampling
    longest = len(request.prompt_tokens) + sampling.max_tokens
    if not request.prompt_tokens:
        raise Refused(kv_pb2.INVALID, "the prompt has no tokens")
    if longest > limits.max_model_len:
        text = f"prompt and output of {longest} tokens exceed the context of {limits.max_model_len}"
        raise Refused(kv_pb2.INVALID, text)
    if len(request.output_tokens) >= sampling.max_tokens:
        raise Refused(kv_pb2.INVALID, "nothing is left to generate")
    if len(request.request_id) > MAX_ID_CHARACTERS:
        text = f"a request's id has at most {MAX_ID_CHARACTERS} characters"
        raise Refused(kv_pb2.INVALID, text)
    if not Priority.LOW <= request.priority <= Priority.HIGH:
        raise Refused(kv_pb2.INVALID, f"priority {request.priority} is none of -1, 0 and 1")
    _check_all_tokens(request, limits)
    left_s = request.deadline_unix_ms / 1e3 - now_unix_s
    if left_s <= 0:
        raise Refused(kv_pb2.EXPIRED, "the deadline had passed on arrival")
    return LiveSequence(
        key=key,
        request_id=request.request_id,
        prompt_tokens=list(request.prompt_tokens),
        output_tokens=list(request.output_tokens),
        params=_params(sampling),
        phase=phase,
        arrived_s=now_s,
        deadline_s=now_s + left_s,
        tenant=request.tenant,
        priority=request.priority,
    )


def _check_all_tokens(request: worker_pb2.Request, limits: Limits) -> None:
    _check_tokens("prompt_tokens", request.prompt_tokens, limits)
    _check_tokens("output_tokens", request.output_tokens, limits)
    _check_tokens("stop_token_ids", request.sampling.stop_token_ids, limits)
    _check_tokens("logit_bias", request.sampling.logit_bias, limits)


def _check_tokens(name: str, tokens: Iterable[int], limits: Limits) -> None:
    if (largest := max(tokens, default=0)) >= limits.vocab_size:
        text = f"{name}: {largest} is outside the vocabulary of {limits.vocab_size}"
        raise Refused(kv_pb2.INVALID, text)


def _transfer_id(transfer: worker_pb2.Transfer) -> str:
    length = len(transfer.transfer_id)
    if not 0 < length <= MAX_ID_CHARACTERS:
        text = f"a transfer's id has 1 to {MAX_ID_CHARACTERS} characters, not {length}"
        raise Refused(kv_pb2.INVALID, text)
    return transfer.transfer_id


def _peer(transfer: worker_pb2.Transfer) -> str:
    host, _, port = transfer.peer.rpartition(":")
    if not host or not port.isdecimal() or len(transfer.peer) > MAX_PEER_CHARACTERS:
        text = "a transfer needs the sidecar of the token worker, as host:port"
        raise Refused(kv_pb2.INVALID, text)
    return transfer.peer


def _capability(transfer: worker_pb2.Transfer) -> bytes:
    length = len(transfer.capability)
    if length > MAX_BYTES:
        raise Refused(kv_pb2.INVALID, f"a capability has at most {MAX_BYTES} bytes, not {length}")
    return transfer.capability


def _params(message: worker_pb2.Sampling) -> SamplingParams:
    try:
        return SamplingParams(
            temperature=message.temperature,
            top_k=message.top_k,
            top_p=message.top_p,
            min_p=message.min_p,
            repetition_penalty=message.repetition_penalty,
            presence_penalty=message.presence_penalty,
            frequency_penalty=message.frequency_penalty,
            seed=message.seed,
            logprobs=message.logprobs if message.HasField("logprobs") else None,
            max_tokens=message.max_tokens,
            stop_token_ids=frozenset(message.stop_token_ids),
            ignore_eos=message.ignore_eos,
            logit_bias=dict(message.logit_bias),
        )
    except ValueError as error:
        raise Refused(kv_pb2.INVALID, str(error)) from error
