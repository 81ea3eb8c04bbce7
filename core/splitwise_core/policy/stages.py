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


@dataclass(frozen=True, slots=True)
class StageView:
    """Measured times of a fleet's workers, as columns beside those of its `FleetView`.

    A prompt takes its tokens over `prompt_tokens_per_s`, which is above 0, a decoding step
    `step_base_s` and `step_slope_s` for each sequence in it. `decoding`: sequences that do, or will
    once their prompts are computed. `prompt_share`: of the time of late, that prompts took.
    `answer_share`: of the tokens that requests may have at most, those that answers had of late.
    """

    prompt_tokens_per_s: Numbers
    step_base_s: Numbers
    step_slope_s: Numbers
    decoding: Numbers
    prompt_share: Numbers
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

        `queued` tokens go before its own `tokens` on the prompt worker; `seen_s` of its transfer
        are not hidden behind the prompt. While it is computed, those that decode beside it wait.
        While it decodes, it makes each step of the others longer, and takes turns with the prompts
        that come to the same worker: what it waits for them, they wait for it. Of many workers,
        given as a slice, it is a column, as `queued` and `tokens` are then.
        """
        # in few steps: over a thousand workers each is an operation on whole columns
        held_up = 1 + self.decoding[prompt]  # itself, and who decodes where its prompt is computed
        prompts_s = (queued + tokens * held_up) / self.prompt_tokens_per_s[prompt]
        slope_s = self.step_slope_s[token]
        longer_s = self.decoding[token] * slope_s  # by the others' sequences, and theirs by its own
        step_s = self.step_base_s[token] + slope_s + longer_s
        share = np.minimum(self.prompt_share[token], MOST_SHARE)
        turns_s = step_s * ((1 + share) / (1 - share))  # 1 + 2 * share / (1 - share): see above
        steps = max(1.0, self.answer_share * max_tokens)
        return prompts_s + seen_s + steps * (turns_s + longer_s)


NO_STAGES: Final = StageView(NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS)
