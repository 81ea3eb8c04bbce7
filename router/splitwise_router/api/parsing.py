"""From bytes to a checked request, or to the one error that helps most."""

import json
import reprlib
from collections import Counter
from difflib import get_close_matches
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from splitwise_router.api.errors import ApiError

UNSUPPORTED: Final = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "audio",
        "bad_words",
        "best_of",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "echo",
        "function_call",
        "functions",
        "guided_choice",
        "guided_decoding_backend",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "include_reasoning",
        "include_stop_str_in_output",
        "kv_transfer_params",
        "length_penalty",
        "logits_processors",
        "metadata",
        "min_tokens",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "priority",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "prompt_logprobs",
        "reasoning",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "store",
        "structured_outputs",
        "suffix",
        "thinking",
        "tool_choice",
        "tools",
        "truncate_prompt_tokens",
        "use_beam_search",
        "verbosity",
        "web_search_options",
    }
)
"""Parameters of the OpenAI API, and of its common extensions, that do nothing here."""

_SHOWN: Final = 64
"""Characters of a client's own text that an error repeats."""

T = TypeVar("T", bound=BaseModel)


def parse(model: type[T], body: bytes, content_type: str | None) -> T:
    """The request in `body`. Raises ApiError 400 naming the field and the fix."""
    document = _json(body, content_type)
    asked = {name: value for name, value in document.items() if value is not None}
    for name in asked:
        if name in UNSUPPORTED:
            wrong = f"{name}: this parameter is not supported here. Leave it out."
            raise ApiError(400, wrong, param=name, code="unsupported_parameter")
    if asked.get("response_format", {"type": "text"}) != {"type": "text"}:
        raise ApiError(
            400,
            "response_format: only {'type': 'text'} is supported. Leave it out.",
            param="response_format",
            code="unsupported_parameter",
        )
    try:
        return model.model_validate(asked)
    except ValidationError as error:
        _refuse(error.errors(), model)


def _json(body: bytes, content_type: str | None) -> dict[str, Any]:
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        wrong = (
            f"The body is announced as {shown(kind)}. Send JSON with content-type: "
            "application/json."
        )
        raise ApiError(415, wrong, code="invalid_content_type")
    try:
        text = body.decode()
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
        if "\\ud" in text.lower():
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _invalid_json("it is not UTF-8 text") from error
    except UnicodeEncodeError as error:
        raise _invalid_json("it holds one half of a surrogate pair without the other") from error
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        raise _invalid_json("it is nested too deeply" if deep else str(error)) from error
    if not isinstance(document, dict):
        raise _invalid_json("it is no JSON object")
    return document


def shown(value: object) -> str:
    """A value of the client's in an error: short, and never more than it takes to recognise it."""
    text = reprlib.repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Of two equal keys both were meant, so neither is taken."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(twice)} stands twice in an object")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _invalid_json(why: str) -> ApiError:
    wrong = f"The body cannot be read: {why}. Send one JSON object."
    return ApiError(400, wrong, code="invalid_json")


def _refuse(errors: list[ErrorDetails], model: type[BaseModel]) -> NoReturn:
    """Raises for the first error: unknown names before wrong values."""
    errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
    error = errors[0]
    names = [str(part) for part in error["loc"]]
    field = names[0] if names else None
    if error["type"] == "extra_forbidden":
        raise _unknown(names, model)
    if error["type"] == "missing":
        wrong = f"{field}: is required. Add it."
        raise ApiError(400, wrong, param=field, code="missing_required_parameter")
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        if field is None:  # a rule over several fields names its own
            field, _, message = message.partition(": ")
        separator = "" if message.startswith("[") else ": "
        raise ApiError(400, f"{field}{separator}{message}.", param=field, code="invalid_value")
    raise _wrong_value(field, errors)


def _wrong_value(field: str | None, errors: list[ErrorDetails]) -> ApiError:
    """One message for all the forms that a field could have had."""
    own = [error for error in errors if error["loc"] and str(error["loc"][0]) == field]
    wishes = dict.fromkeys(error["msg"].removeprefix("Input ") for error in own)
    wrong = f"{field}: {', or '.join(wishes)}; got {shown(own[0]['input'])}."
    bounds = ("greater", "less", "too_long", "too_short", "string_too_short")
    out_of_range = own[0]["type"].startswith(bounds)
    return ApiError(
        400, wrong, param=field, code="invalid_value" if out_of_range else "invalid_type"
    )


def _unknown(names: list[str], model: type[BaseModel]) -> ApiError:
    path = ".".join(name[:_SHOWN] for name in names)
    known = sorted(field.alias or name for name, field in model.model_fields.items())
    near = get_close_matches(names[-1][:_SHOWN], known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}?" if near and len(names) == 1 else "Leave it out."
    wrong = f"{path}: this parameter is not known. {hint}"
    return ApiError(400, wrong, param=path, code="unknown_parameter")
