"""Turns sequences into tensors, runs the model, and draws a token for each."""

import logging
from collections.abc import Callable, Sequence

import torch

from splitwise_worker.kv.store import KvStore
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.sampling import Sampled, SampleInput, sample
from splitwise_worker.sequence import LiveSequence

log = logging.getLogger("splitwise.worker.runner")

OnLayer = Callable[[int], None]


class Runner:
    """One model and its KV. Prompts and single tokens are the same thing here: pending tokens."""

    def __init__(self, decoder: Decoder, store: KvStore, block_tokens: int, device: str) -> None:
        self._decoder = decoder
        self._store = store
        self._block_tokens = block_tokens
        self._device = device

    def run(
        self, sequences: Sequence[LiveSequence], on_layer: OnLayer | None = None
    ) -> list[Sampled | None]:
        """The next token of each sequence, after its pending ones; None where there is none.

        `on_layer(i)` is called when the K/V of layer i have been written (on a GPU: enqueued). A
        batch that fails runs again one by one, so that a sequence fails for what it is itself, not
        for its company; layers are then announced again. Raises when the device itself has failed.
        """
        try:
            return self._run(sequences, on_layer)
        except torch.AcceleratorError:
            raise  # no later call can work either: the process has to begin anew
        except Exception:
            log.exception("a step failed", extra={"fields": {"sequences": len(sequences)}})
        if len(sequences) == 1:
            return [None]
        return [token for sequence in sequences for token in self.run([sequence], on_layer)]

    def _run(
        self, sequences: Sequence[LiveSequence], on_layer: OnLayer | None
    ) -> list[Sampled | None]:
        spans = [Span(s.pending_tokens, s.computed_tokens, s.blocks) for s in sequences]
        batch = make_batch(spans, self._block_tokens, self._device)
        with torch.inference_mode():
            logits = self._decoder.forward(batch, self._store.tensor, on_layer)
            sampled = sample(logits, [_sample_input(sequence) for sequence in sequences])
        for sequence, token in zip(sequences, sampled, strict=True):
            if token is None:
                fields = {"request": sequence.request_id}
                log.error("the model's logits are not finite", extra={"fields": fields})
            sequence.computed_tokens = sequence.num_tokens
        return sampled


def _sample_input(sequence: LiveSequence) -> SampleInput:
    return SampleInput(
        params=sequence.params,
        prompt_tokens=sequence.prompt_tokens,
        output_tokens=sequence.output_tokens,
        position=sequence.num_tokens,
    )
