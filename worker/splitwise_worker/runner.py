"""Turns sequences into tensors, runs the model, and draws a token for each."""

import logging
from collections.abc import Callable, Sequence

import torch

from splitwise_worker.kv.store import KvStore
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decode_graphs import DecodeGraphs
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.sampling import UNFINISHED, Sampled, SampleInput, sample
from splitwise_worker.sequence import LiveSequence

log = logging.getLogger("splitwise.worker.runner")

OnLayer = Callable[[int], None]


class Runner:
    """One model and its KV. Prompts and single tokens are the same thing here: pending tokens.

    With `graphs`, steps of one token a sequence are theirs.
    """

    def __init__(
        self,
        decoder: Decoder,
        store: KvStore,
        block_tokens: int,
        device: str,
        graphs: DecodeGraphs | None = None,
    ) -> None:
        self._decoder = decoder
        self._store = store
        self._block_tokens = block_tokens
        self._device = device
        self._graphs = graphs

    def run(
        self,
        sequences: Sequence[LiveSequence],
        on_layer: OnLayer | None = None,
        tokens: Sequence[int] | None = None,
    ) -> list[Sampled | None]:
        """The next token of each sequence, after its pending ones; None where there is none.

        Of `tokens` only so many of the pending ones are computed: where that is not all, the
        result is UNFINISHED.

        `on_layer(i)` is called when the K/V of layer i have been written (on a GPU: enqueued). A
        batch that fails runs again one by one, so that a sequence fails for what it is itself, not
        for its company; layers are then announced again. Raises when the device itself has failed.
        """
        counts = tokens or [sequence.tokens_to_compute for sequence in sequences]
        try:
            return self._run(sequences, counts, on_layer)
        except torch.AcceleratorError:
            raise  # no later call can work either: the process has to begin anew
        except Exception:
            log.exception("a step failed", extra={"fields": {"sequences": len(sequences)}})
        if len(sequences) == 1:
            return [None]
        alone = zip(sequences, counts, strict=True)
        return [token for one, count in alone for token in self.run([one], on_layer, [count])]

    def _run(
        self, sequences: Sequence[LiveSequence], counts: Sequence[int], on_layer: OnLayer | None
    ) -> list[Sampled | None]:
        spans = [
            Span(s.pending_tokens[:count], s.computed_tokens, s.blocks)
            for s, count in zip(sequences, counts, strict=True)
        ]
        with torch.inference_mode():
            logits = self._forward(spans, on_layer)
            done = [
                row
                for row, (sequence, count) in enumerate(zip(sequences, counts, strict=True))
                if count == sequence.tokens_to_compute
            ]
            ends = logits if len(done) == len(sequences) else logits[done]
            sampled = sample(ends, [_sample_input(sequences[row]) for row in done])
        found: list[Sampled | None] = [UNFINISHED] * len(sequences)
        for row, token in zip(done, sampled, strict=True):
            found[row] = token
            if token is None:
                fields = {"request_id": sequences[row].request_id}
                log.error("the model's logits are not finite", extra={"fields": fields})
        for sequence, count in zip(sequences, counts, strict=True):
            sequence.computed_tokens += count
        return found

    def _forward(self, spans: Sequence[Span], on_layer: OnLayer | None) -> torch.Tensor:
        if self._graphs and on_layer is None and max(len(span.tokens) for span in spans) == 1:
            return self._graphs.forward(spans)
        batch = make_batch(spans, self._block_tokens, self._device)
        return self._decoder.forward(batch, self._store.tensor, on_layer)


def _sample_input(sequence: LiveSequence) -> SampleInput:
    return SampleInput(
        params=sequence.params,
        prompt_tokens=sequence.prompt_tokens,
        output_tokens=sequence.output_tokens,
        position=sequence.num_tokens,
    )
