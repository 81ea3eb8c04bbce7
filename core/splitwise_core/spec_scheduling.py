"""The part of a SplitwiseCluster that says how the two schedulers work."""

from typing import Annotated

from pydantic import Field

from splitwise_core.fields import SpecModel
from splitwise_core.policy.batching import CHUNK_TOKENS, PROMPT_BATCH_TOKENS
from splitwise_core.policy.routing import OVERFLOW_TOKENS


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
            description="Pending tokens above which a pool overflows into the mixed pool.",
        ),
    ] = OVERFLOW_TOKENS
