"""A stream of tokens as an OpenAI client reads it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openai import AsyncOpenAI, AsyncStream
from openai.types import Completion


@asynccontextmanager
async def stream_of(
    client: AsyncOpenAI, prompt: list[int], max_tokens: int
) -> AsyncIterator[AsyncStream[Completion]]:
    """The tiny model's greedy answer, chunk by chunk, to exactly so many tokens."""
    async with await client.completions.create(
        model="tiny",
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
        logprobs=0,
        extra_body={"ignore_eos": True},
    ) as stream:
        yield stream


def tokens_in(chunk: Completion) -> list[str]:
    """The tokens of a chunk, each as its text."""
    return [
        token
        for choice in chunk.choices
        if choice.logprobs and choice.logprobs.tokens
        for token in choice.logprobs.tokens
    ]


def is_last(chunk: Completion) -> bool:
    """Whether a chunk says that the answer is whole."""
    return any(choice.finish_reason is not None for choice in chunk.choices)
