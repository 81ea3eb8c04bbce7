"""Turns sequences into tensors, runs the model, and draws a token for each."""

from collections.abc import Callable, Sequence

import torch

from splitwise_worker.kv.store import KvStore
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.sampling import Sampled, SampleInput, sample
from splitwise_worker.sequence import LiveSequence


class Runner:
    """One model and its KV. Prompts and single tokens are the same thing here: pending tokens."""

    def __init__(self, decoder: Decoder, store: KvStore, block_tokens: int, device: str) -> None:
        self._decoder = decoder
        self._store = store
        self._block_tokens = block_tokens
        self._device = device

    def run(
        self, sequences: Sequence[LiveSequence], on_layer: Callable[[int], None] | None = None
    ) -> list[Sampled]:
        """Computes the pending tokens of each sequence and draws its next token.

        `on_layer(i)` is called when the K/V of layer i have been written (on a GPU: enqueued).
        """
        spans = [Span(s.pending_tokens, s.computed_tokens, s.blocks) for s in sequences]
        batch = make_batch(spans, self._block_tokens, self._device)
        with torch.inference_mode():
            logits = self._decoder.forward(batch, self._store.tensor, on_layer)
            sampled = sample(logits, [_sample_input(sequence) for sequence in sequences])
        for sequence in sequences:
            sequence.computed_tokens = sequence.num_tokens
        return sampled


def _sample_input(sequence: LiveSequence) -> SampleInput:
    return SampleInput(
        params=sequence.params,
        prompt_tokens=sequence.prompt_tokens,
        output_tokens=sequence.output_tokens,
        position=sequence.num_tokens,
    )
