"""The part of a SplitwiseCluster that says how the two schedulers work."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from splitwise_core.fields import SpecModel
from splitwise_core.policy.batching import CHUNK_TOKENS, PROMPT_BATCH_TOKENS
from splitwise_core.policy.duty import REPURPOSE_S
from splitwise_core.policy.mixing import OVERFLOW_TOKENS


class Scheduling(SpecModel):
    """Limits of the two schedulers."""

    prompt_batch_tokens: Annotated[
        int, Field(ge=1, le=131072, description="Prompt tokens that one batch holds at most.")
    ] = PROMPT_BATCH_TOKENS
    chunk_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=131072,
            description="Prompt tokens of one step while sequences decode on the same worker: how "
            "long a prompt may hold them up.",
        ),
    ] = CHUNK_TOKENS
    prefix_caching: Annotated[
        bool,
        Field(
            description="Whether prompts that begin alike share the KV of their beginning. What "
            "was found is told in usage.prompt_tokens_details. Turn it off where nobody may learn, "
            "from how soon an answer comes, what others have asked."
        ),
    ] = True
    overflow_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=2**31 - 1,
            description="Pending tokens above which a pool overflows into the mixed pool, and "
            "prompts that find no shorter queue there borrow a token worker.",
        ),
    ] = OVERFLOW_TOKENS
    borrowing: Annotated[
        bool,
        Field(
            description="Whether a pool that is crowded or full, and that the mixed pool cannot "
            "relieve, borrows workers of the other one: they serve both phases until that work is "
            "done."
        ),
    ] = True
    repurpose_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=86_400,
            description="A worker that has been borrowed for so long, and works more for the other "
            "pool than for its own, proposes to move a replica there: in its log, in a metric, and "
            "in `splitwise status`.",
        ),
    ] = REPURPOSE_S
    disaggregation: Annotated[
        Literal["Always", "Auto", "Never"],
        Field(
            description="Always gives the two phases of a request to two workers, of which one may "
            "be mixed or borrowed. Auto keeps both on one where measured times say that it is "
            "cheaper for all, or the prompt is short; without borrowing, on no prompt worker. "
            "Never keeps both on one, whatever its pool is for."
        ),
    ] = "Always"

    @model_validator(mode="after")
    def _never_mixes(self) -> "Scheduling":
        if self.disaggregation == "Never" and not self.borrowing:
            raise ValueError(
                "borrowing: with disaggregation Never all workers serve both phases; leave it out"
            )
        return self
