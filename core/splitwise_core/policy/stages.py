"""What a placement costs in seconds, from what the stages of requests were measured to take.

Seconds of the request itself, and those by which it holds others up: so a worker that decodes for
many is not given a long prompt to save one transfer, and an idle one is not passed over because of
the pool it belongs to. Pure: plain numbers in, seconds out.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from splitwise_core.policy.fleet import NO_NUMBERS, Numbers

MOST_SHARE: Final = 0.8
"""A worker that does nothing but prompts still decodes: its machine scheduler lets nobody wait for
ever, and after a while every other step is the tokens' turn."""


def token_s(step_base_s: Any, step_slope_s: Any, decoding: Any, prompt_share: Any) -> Any:
    """Seconds that a token of one more sequence costs it, and those that decode beside it.

    A decoding step takes `step_base_s`, and `step_slope_s` for each sequence in it; `decoding` are
    in it already, so each step is longer by one for all of them. Prompts take `prompt_share` of the
    time, and the sequence takes turns with them: what it waits for them, they wait for it. Of one
    worker, or of many as columns.
    """
    longer_s = decoding * step_slope_s  # by the others' sequences, and theirs by its own
    step_s = step_base_s + step_slope_s + longer_s
    share = np.minimum(prompt_share, MOST_SHARE)
    return step_s * ((1 + share) / (1 - share)) + longer_s  # 1 + 2 * share / (1 - share): see above


@dataclass(frozen=True, slots=True)
class StageView:
    """Measured times of a fleet's workers, as columns beside those of its `FleetView`.

    A prompt takes its tokens over `prompt_tokens_per_s`, which is above 0. `token_s`: see there.
    `decoding`: sequences that do, or will once their prompts are computed. `answer_share`: of the
    tokens that requests may have at most, those that answers had of late.
    """

    prompt_tokens_per_s: Numbers
    token_s: Numbers
    decoding: Numbers
    answer_share: float = 1.0

    @property
    def known(self) -> bool:
        """Whether enough was measured to compare placements."""
        return len(self.prompt_tokens_per_s) > 0

    def cost_s(
        self,
        prompt: int | slice,
        token: int | slice,
        queued: Any,
        tokens: Any,
        max_tokens: int,
        seen_s: float,
    ) -> Any:
        """Seconds that a request takes on two workers, or one, and costs others there.

        `queued` tokens go before its own `tokens` on the prompt worker, and those that decode
        beside it wait while they are computed; `seen_s` of its transfer are not hidden behind the
        prompt. Of many workers, given as a slice, it is a column, as `queued` and `tokens` may be
        then.
        """
        held_up = 1 + self.decoding[prompt]  # itself, and who decodes where its prompt is computed
        prompts_s = (queued + tokens * held_up) / self.prompt_tokens_per_s[prompt]
        steps = max(1.0, self.answer_share * max_tokens)
        return prompts_s + seen_s + steps * self.token_s[token]


NO_STAGES: Final = StageView(NO_NUMBERS, NO_NUMBERS, NO_NUMBERS)


def stage_view(
    role: Numbers,
    ready: Numbers,
    prompt_tokens_per_s: Numbers,
    step_base_s: Numbers,
    step_slope_s: Numbers,
    decoding: Numbers,
    prompt_share: Numbers,
    answer_share: float = 1.0,
) -> StageView:
    """What the stages take, as each worker has measured it; 0 where it has not.

    Such a one is taken to be like the `ready` ones that have: a token worker has computed no prompt
    yet. Nothing is known while none of them has.

    A worker's `prompt_share` counts for no less than the mean of its `role`: who happened to
    compute few prompts of late gets its part of those to come all the same. By its own share alone,
    whoever had the least luckily would be given sequences that then wait for prompts.
    """
    fast, stepped = prompt_tokens_per_s > 0, step_base_s + step_slope_s > 0
    if not (fast & ready).any() or not (stepped & ready).any():
        return NO_STAGES
    base_s = _filled(step_base_s, stepped, stepped & ready)
    slope_s = _filled(step_slope_s, step_slope_s != 0, stepped & ready)
    share = np.maximum(prompt_share, _mean_of(role, prompt_share, ready))
    return StageView(
        _filled(prompt_tokens_per_s, fast, fast & ready),
        token_s(base_s, slope_s, decoding, share),
        decoding,
        answer_share,
    )


def _mean_of(role: Numbers, column: Numbers, ready: Numbers) -> Numbers:
    """For each worker, the mean of the ready ones of its role."""
    sums = np.bincount(role, column * ready)
    counts = np.bincount(role, ready)
    return (sums / np.maximum(counts, 1))[role]


def _filled(column: Numbers, known: Numbers, typical: Numbers) -> Numbers:
    """A column in which the mean of the `typical` rows stands where nothing is known."""
    return column if known.all() else np.where(known, column, column[typical].mean())
