"""A model's tokenizer files as the router uses them: text and chats to tokens, tokens to text."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Backend

from splitwise_core.errors import UserError
from splitwise_router.api.errors import ApiError

Message = dict[str, str]

_SPECIAL_NAMES: Final = ("bos_token", "eos_token", "unk_token", "pad_token")


class Tokenizer:
    """Loaded once, read by all requests. `fingerprint` is equal where tokens mean the same."""

    def __init__(
        self,
        backend: Backend,
        template: str | None,
        special: Mapping[str, str],
        vocab_size: int,
        max_model_len: int,
        fingerprint: bytes,
    ) -> None:
        self._backend = backend
        self._special = dict(special)
        self._template = None if template is None else _environment().from_string(template)
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, directory: Path, max_length: int | None) -> "Tokenizer":
        """Reads a model directory. Raises UserError naming the file that is missing or damaged."""
        config = _read_json(directory / "config.json", required=True)
        own = _read_json(directory / "tokenizer_config.json", required=False)
        context = int(config.get("max_position_embeddings", 0))
        if context < 1 or int(config.get("vocab_size", 0)) < 1:
            wrong = "lacks max_position_embeddings or vocab_size"
            raise _corrupt(directory / "config.json", wrong)
        path = directory / "tokenizer.json"
        try:
            content = _read_bytes(path)
            backend = Backend.from_buffer(content)
        except UserError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise _corrupt(path, f"is no tokenizer: {error}") from error
        try:
            return cls(
                backend,
                _chat_template(directory, own),
                {name: _content(own[name]) for name in _SPECIAL_NAMES if own.get(name)},
                int(config["vocab_size"]),
                min(context, max_length) if max_length is not None else context,
                sha256(content).digest(),  # as workers do: WorkerInfo.tokenizer_fingerprint
            )
        except TemplateSyntaxError as error:
            wrong = f"its chat template does not parse: {error}"
            raise _corrupt(directory / "tokenizer_config.json", wrong) from error

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The tokens of a text, with the tokenizer's own begin-of-text token when asked for."""
        # Of all ways to encode this one lets other threads run meanwhile, and takes a third of the
        # time: it counts no offsets.
        (encoded,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        tokens: list[int] = encoded.ids
        return tokens

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the answer begins. Raises ApiError."""
        if self._template is None:
            raise ApiError(
                400,
                "This model has no chat template. Use /v1/completions.",
                param="messages",
                code="no_chat_template",
            )
        try:
            text = self._template.render(
                messages=list(messages), add_generation_prompt=True, **self._special
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ApiError(
                400,
                f"messages: the model's chat template refuses them: {error}",
                param="messages",
                code="invalid_messages",
            ) from error
        return self.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special tokens have none, incomplete characters are U+FFFD."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=True))

    def token_text(self, token: int) -> str:
        """One token by itself, special tokens by their name."""
        return str(self._backend.decode([token], skip_special_tokens=False))

    def token_bytes(self, token: int) -> list[int]:
        """The UTF-8 bytes of one token's text."""
        return list(self.token_text(token).encode())


def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates of Hugging Face checkpoints expect; they are data, so sandboxed."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja where there is one, else the template named "default" or the only one."""
    path = directory / "chat_template.jinja"
    if path.exists():
        return _read_text(path)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item["name"]: item["template"] for item in template}
        template = named.get("default") or next(iter(named.values()), None)
    return template


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise _corrupt(path, f"cannot be read: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            "model-missing",
            where=str(path),
            wrong="the file is not there",
            fix="copy the whole checkpoint directory, tokenizer files included",
        ) from error
    except OSError as error:
        raise _corrupt(path, f"cannot be read: {error}") from error


def _read_json(path: Path, required: bool) -> Mapping[str, Any]:
    if not required and not path.exists():
        return {}
    try:
        content = json.loads(_read_text(path))
    except ValueError as error:
        raise _corrupt(path, f"is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _corrupt(path, "holds no JSON object")
    return content


def _corrupt(path: Path, wrong: str) -> UserError:
    return UserError(
        "model-corrupt",
        where=str(path),
        wrong=wrong,
        fix="restore the file from the checkpoint",
    )
