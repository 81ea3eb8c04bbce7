"""From a router's message to a sequence, or to the reason why not."""

from dataclasses import dataclass

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.sampling import SamplingParams
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey


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
        sequence.transfer_id = _transfer_id(message.transfer)
        sequence.peer = message.transfer.peer
        if not sequence.peer:
            raise Refused(kv_pb2.INVALID, "a transfer needs the sidecar of the token worker")
    return sequence


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
    prompt, output = list(request.prompt_tokens), list(request.output_tokens)
    longest = len(prompt) + request.sampling.max_tokens
    if not prompt:
        raise Refused(kv_pb2.INVALID, "the prompt has no tokens")
    if longest > limits.max_model_len:
        text = f"prompt and output of {longest} tokens exceed the context of {limits.max_model_len}"
        raise Refused(kv_pb2.INVALID, text)
    if len(output) >= request.sampling.max_tokens:
        raise Refused(kv_pb2.INVALID, "nothing is left to generate")
    if max(max(prompt), max(output, default=0)) >= limits.vocab_size:
        raise Refused(kv_pb2.INVALID, f"a token id is outside the vocabulary: {limits.vocab_size}")
    left_s = request.deadline_unix_ms / 1e3 - now_unix_s
    if left_s <= 0:
        raise Refused(kv_pb2.EXPIRED, "the deadline had passed on arrival")
    return LiveSequence(
        key=key,
        request_id=request.request_id,
        prompt_tokens=prompt,
        output_tokens=output,
        params=_params(request.sampling),
        phase=phase,
        arrived_s=now_s,
        deadline_s=now_s + left_s,
    )


def _transfer_id(transfer: worker_pb2.Transfer) -> str:
    if not transfer.transfer_id:
        raise Refused(kv_pb2.INVALID, "a transfer needs an id")
    return transfer.transfer_id


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
            stop_token_ids=tuple(message.stop_token_ids),
            ignore_eos=message.ignore_eos,
            logit_bias=dict(message.logit_bias),
        )
    except ValueError as error:
        raise Refused(kv_pb2.INVALID, str(error)) from error
