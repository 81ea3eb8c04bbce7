"""One placement of a request: its leg, or its two legs, joined into one stream of tokens."""

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from typing import Final

from splitwise_core.rpc.kv_pb2 import CANCELLED, Outcome
from splitwise_core.rpc.worker_pb2 import (
    FINISH_FAILED,
    FINISH_HANDED_OVER,
    FINISH_LENGTH,
    FINISH_NONE,
    FINISH_STOP,
    Decode,
    Prefill,
    Stages,
    TokenLogprobs,
    ToWorker,
    Transfer,
    Update,
)
from splitwise_router.fleet import Found
from splitwise_router.generation import Generation
from splitwise_router.legs import Leg, leg_of
from splitwise_router.minting import Mint
from splitwise_router.moves import Moves, Succession
from splitwise_router.session import Session

ENDS: Final = {FINISH_STOP: "stop", FINISH_LENGTH: "length"}


@dataclass(slots=True)
class Piece:
    """Tokens that came together. `finish` is "stop" or "length" with the last of them."""

    tokens: list[int]
    logprobs: list[TokenLogprobs]
    finish: str | None = None


class LegFailed(Exception):
    """A worker could not go on with its part; `outcome` says why, and whether to try again."""

    def __init__(self, outcome: int, detail: str) -> None:
        super().__init__(f"{Outcome.Name(outcome)}: {detail}")
        self.outcome = outcome


class Attempt:
    """The legs of one placement. `end` gives everything back, whatever happened before."""

    def __init__(
        self, generation: Generation, sequence: int, found: Found, mint: Mint, moves: Moves
    ) -> None:
        self.found = found
        self._generation = generation
        self._prefilled = generation.to_prefill  # tokens
        self._legs: list[tuple[Session, Leg]] = []  # first that of the worker that decodes
        self._piece = Piece([], [])
        self._early: list[Update] = []  # the token worker's, come before the first token
        self._first_token_seen = False
        self._decoding = False  # on a token worker
        self._prompt_over = found.token is None
        self._failure: LegFailed | None = None
        self._given_up: Update | None = None  # by the prompt worker, as the token worker was told
        self._waiter: asyncio.Future[None] | None = None
        self._began_s = time.monotonic()
        generation.trace.placed(found.prompt.name, (found.token or found.prompt).name)
        self._start(sequence, found, mint)
        self._succession = Succession(
            moves, generation, *self._legs[0], self._from_token, self._known
        )

    def _start(self, sequence: int, found: Found, mint: Mint) -> None:
        generation = self._generation
        generation.stages = Stages()
        generation.prompt_worker = found.prompt.name
        generation.token_worker = (found.token or found.prompt).name
        request = generation.message(sequence)
        tokens, total = generation.to_prefill, generation.to_prefill + generation.to_generate
        if found.token is None:
            self._open(found.prompt, ToWorker(prefill=Prefill(request=request)), total, tokens)
            return
        transfer_id = secrets.token_hex(16)
        decode = Decode(request=request, transfer=Transfer(transfer_id=transfer_id))
        self._open(found.token, ToWorker(decode=decode), total, 0)
        peer = found.token.info.sidecar if found.token.info else ""
        capability = generation.capability(
            transfer_id, generation.prompt_worker, generation.token_worker, tokens
        )
        transfer = Transfer(transfer_id=transfer_id, peer=peer, capability=mint(capability))
        prefill = Prefill(request=request, transfer=transfer)
        self._open(found.prompt, ToWorker(prefill=prefill), tokens, tokens)

    def _open(
        self, session: Session, message: ToWorker, reserved_tokens: int, prompt_tokens: int
    ) -> None:
        is_prompt = message.HasField("prefill")
        part = message.prefill if is_prompt else message.decode
        deliver = self._from_prompt if is_prompt else self._from_token
        leg = leg_of(part, deliver, reserved_tokens, session.info, prompt_tokens)
        self._legs.append((session, leg))
        session.start(leg, message)

    def end(self) -> None:
        """Cancels what still runs on the workers; of a prompt worker that has handed over nothing
        does, and it is about to say so."""
        self._succession.end()
        for session, leg in self._legs[:1] if self._is_handed_over else self._legs:
            session.cancel(leg)

    @property
    def _is_handed_over(self) -> bool:
        """Whether the KV is where it is decoded from, and its prompt worker needed no more."""
        return self._decoding and self._first_token_seen

    async def next(self) -> Piece:
        """The next tokens. Raises LegFailed when the legs cannot go on, after all that came."""
        while True:
            piece = self._piece
            if piece.tokens or piece.finish:
                break
            if self._failure is not None:
                raise self._failure
            await self._wait()
        self._piece = Piece([], [])
        self._generation.output += piece.tokens
        if piece.tokens:
            self._generation.revision = self.found.revision
        return piece

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _known(self) -> list[int]:
        """The output so far, all of it; nothing before this attempt's first token."""
        return [*self._generation.output, *self._piece.tokens] if self._first_token_seen else []

    def _is_of_succession(self, update: Update) -> bool:
        """Whether the word of the worker that decodes is about who goes on, and was heard so."""
        if not self._succession.hear(update):
            return False
        if self._succession.decoder is not self.found.prompt:
            self.found = replace(self.found, token=self._succession.decoder)
        return True

    def _from_prompt(self, update: Update) -> None:
        if self.found.token is None and self._is_of_succession(update):
            return
        if update.HasField("stages"):
            self._generation.stages.MergeFrom(update.stages)
            self._note_prompt(update.stages)
        if update.tokens and not self._first_token_seen:
            self._first_token_seen = True
            session, leg = self._legs[-1]
            session.prompt_done(leg)
        self._prompt_over = self._prompt_over or update.finish != FINISH_NONE
        if update.finish == FINISH_FAILED:
            if not self._is_handed_over:
                self._fail(update)
        elif update.finish != FINISH_HANDED_OVER:
            self._take(update)
        if self._prompt_over and self._given_up is not None:
            self._fail(self._given_up)
        if self._first_token_seen and self._early:
            early, self._early = self._early, []
            for late in early:
                self._from_token(late)
        self._wake()

    def _note_prompt(self, stages: Stages) -> None:
        """Takes what the prompt worker says of its part: what it computed, and how fast."""
        self._generation.trace.prefilled(stages)
        if stages.HasField("cached_tokens") and self._prefilled == len(self._generation.prompt):
            self._generation.cached_tokens = stages.cached_tokens
        if self.found.changes_role and stages.HasField("prefill_s"):
            waited_s = time.monotonic() - self._began_s - stages.prefill_s
            self._generation.role_change_s = max(0.0, waited_s)
        self.found.prompt.prompted(self._prefilled - stages.cached_tokens, stages.prefill_s)

    def _from_token(self, update: Update) -> None:
        if self._is_of_succession(update):
            return
        if update.tokens and not self._first_token_seen:
            self._early.append(update)
            self._decoding = True
            return
        if update.HasField("stages"):
            self._generation.stages.MergeFrom(update.stages)
        if update.outcome == CANCELLED and not self._prompt_over:
            # The prompt worker gives a transfer up when it fails, or when its first token is the
            # last one. Its own word on that comes another way, and may come later.
            self._given_up = update
        elif update.finish == FINISH_FAILED:
            self._fail(update)
        else:
            self._decoding = self._decoding or bool(update.tokens)
            self._take(update)
        self._wake()

    def _take(self, update: Update) -> None:
        self._piece.tokens.extend(update.tokens)
        self._piece.logprobs.extend(update.logprobs)
        self._piece.finish = ENDS.get(update.finish)

    def _fail(self, update: Update) -> None:
        if self._failure is None and self._piece.finish is None:
            self._failure = LegFailed(update.outcome, update.detail)
