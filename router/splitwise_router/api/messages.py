"""Chat messages as the API takes them, reduced to what a chat template gets: role and text."""

import reprlib
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

ROLES: Final = ("system", "developer", "user", "assistant")
_FIELDS: Final = {"role", "content", "name"}


def _messages(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list):
        raise ValueError("should be a list of messages")
    return [_message(message, f"[{index}]") for index, message in enumerate(value)]


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise ValueError(f"{where}: should be an object with role and content")
    if unknown := sorted(set(message) - _FIELDS):
        raise ValueError(f"{where}.{unknown[0][:64]}: is not supported; role, content and name are")
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(
            f"{where}.role: {reprlib.repr(role)} is not supported; use one of {', '.join(ROLES)}"
        )
    read = {"role": "system" if role == "developer" else role}
    read["content"] = _content(message.get("content"), f"{where}.content")
    if "name" in message:
        if not isinstance(message["name"], str):
            raise ValueError(f"{where}.name: should be a string")
        read["name"] = message["name"]
    return read


def _content(content: Any, where: str) -> str:
    """A string, or the text parts of a list under each other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{where}: should be a string or a list of text parts")
    return "\n".join(_part(part, f"{where}[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise ValueError(
            f"{where}.type: {reprlib.repr(kind)} is not supported; only 'text' parts are"
        )
    if not isinstance(part.get("text"), str) or set(part) != {"type", "text"}:
        raise ValueError(f"{where}: a text part has a string in 'text' and nothing else")
    return str(part["text"])


def _not_empty(value: list[dict[str, str]]) -> list[dict[str, str]]:
    if not value:
        raise ValueError("at least one message is needed")
    return value


Messages = Annotated[
    list[dict[str, str]], BeforeValidator(_messages), AfterValidator(_not_empty), Field()
]
"""Messages for a chat template. Content parts are joined, `developer` is a system message."""
