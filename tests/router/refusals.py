"""Requests that are right, and what a parser says to those that are not."""

import json
from typing import Any

import pytest

from splitwise_router.api.errors import ApiError
from splitwise_router.api.requests import parse_chat

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}


def refused(
    document: Any,
    parse: Any = parse_chat,
    content_type: str | None = None,
    status: int = 400,
) -> ApiError:
    """The error for a document, or for a body as it is."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(ApiError) as caught:
        parse(body, content_type)
    error = caught.value
    assert error.status == status
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}  # type: ignore[call-overload]
    return error
