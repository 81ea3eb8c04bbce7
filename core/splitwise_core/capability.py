"""What lets one prompt worker push one request's KV to one token worker: made and checked, pure.

A capability is its fields and a MAC over them (HMAC-SHA256), made by the router with a key that it
shares with the sidecars. Whoever lacks the key can neither make one nor change one.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from struct import error as StructError
from typing import Final

VERSION: Final = 1

MAX_BYTES: Final = 4096
"""Four names of at most 256 characters need less; more is not even looked at."""

LEAST_KEY_BYTES: Final = 32
MAX_KEYS: Final = 8
"""Two are enough to change keys; each one more costs every forged capability another MAC."""

Keys = tuple[bytes, ...]
"""Made with the first, accepted with any."""

_PURPOSE: Final = b"splitwise capability"
_LENGTH: Final = Struct(">I")
_NUMBERS: Final = Struct(">Iq")  # tokens, milliseconds since 1970
_MAC_BYTES: Final = 32


class Refusal(StrEnum):
    """Why a sidecar refuses what a peer asks for; the values are the metric's label."""

    MISSING = "missing"  # none was shown
    MALFORMED = "malformed"  # not to be read: noise, or of another version
    FORGED = "forged"  # no key that is known here has made it
    LATE = "late"  # it was good until before now
    OTHER_TRANSFER = "other_transfer"
    OTHER_REQUEST = "other_request"
    OTHER_PROMPT_WORKER = "other_prompt_worker"
    OTHER_TOKEN_WORKER = "other_token_worker"
    OTHER_SIZE = "other_size"  # more or fewer tokens than the lease is for
    UNPROVEN = "unproven"  # whoever shows it holds no key: it may be stolen
    SPENT = "spent"  # its lease is over, and somebody else held it
    NOT_HOLDER = "not_holder"  # of the lease, which another has claimed, or nobody


class NotAllowed(Exception):
    """The one reason, and words for people without anything secret in them."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Capability:
    """Who may push what to whom, and until when."""

    transfer_id: str
    request_id: str
    prompt_worker: str  # a worker id, as is `token_worker`
    token_worker: str
    num_tokens: int
    not_after_unix_ms: int

    def check_call(
        self, transfer_id: str, prompt_worker: str, token_worker: str, now_unix_ms: int
    ) -> None:
        """Raises NotAllowed unless it is for this transfer between these two, and it is in time."""
        _must_equal("transfer", self.transfer_id, transfer_id, Refusal.OTHER_TRANSFER)
        _must_equal("from", self.prompt_worker, prompt_worker, Refusal.OTHER_PROMPT_WORKER)
        _must_equal("to", self.token_worker, token_worker, Refusal.OTHER_TOKEN_WORKER)
        if now_unix_ms > self.not_after_unix_ms:
            late_ms = now_unix_ms - self.not_after_unix_ms
            raise NotAllowed(Refusal.LATE, f"the capability ended {late_ms} ms ago")

    def check_lease(self, request_id: str, num_tokens: int) -> None:
        """Raises NotAllowed unless the lease that was opened is the one that it is for."""
        _must_equal("request", self.request_id, request_id, Refusal.OTHER_REQUEST)
        _must_equal("tokens", self.num_tokens, num_tokens, Refusal.OTHER_SIZE)


def _must_equal(what: str, allowed: object, found: object, reason: Refusal) -> None:
    if allowed != found:
        raise NotAllowed(reason, f"the capability is for {what} {allowed!r}, not {found!r}")


def mint(capability: Capability, keys: Keys) -> bytes:
    """The capability as it travels."""
    body = _encode(capability)
    return body + seal(keys[0], _PURPOSE, body)


def read(token: bytes, keys: Keys) -> Capability:
    """The capability that one of `keys` has made. Raises NotAllowed for anything else."""
    if not token:
        raise NotAllowed(Refusal.MISSING, "no capability was shown")
    if not _MAC_BYTES < len(token) <= MAX_BYTES or token[0] != VERSION:
        raise NotAllowed(Refusal.MALFORMED, f"this is no capability of version {VERSION}")
    body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
    if not is_sealed(mac, keys, _PURPOSE, body):
        raise NotAllowed(Refusal.FORGED, "no key that is known here has made the capability")
    return _decode(body)


def seal(key: bytes, purpose: bytes, *parts: bytes) -> bytes:
    """The MAC of these parts, in this order and with these borders, for this purpose alone."""
    return hmac.digest(key, _framed(purpose, *parts), "sha256")


def is_sealed(mac: bytes, keys: Keys, purpose: bytes, *parts: bytes) -> bool:
    """Whether one of `keys` has made this MAC. Takes the same time whichever byte is wrong."""
    return any(hmac.compare_digest(mac, seal(key, purpose, *parts)) for key in keys)


def parse_keys(text: str) -> tuple[bytes, ...]:
    """The keys in `text`, one a line in hex. Raises ValueError, which repeats none of it."""
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(_key(number, line) for number, line in enumerate(lines, 1) if line)
    if not 0 < len(keys) <= MAX_KEYS:
        raise ValueError(f"it has {len(keys)} keys, not 1 to {MAX_KEYS}")
    return keys


def _key(number: int, line: str) -> bytes:
    try:
        key = bytes.fromhex(line)
    except ValueError:
        key = b""
    if len(key) < LEAST_KEY_BYTES:
        raise ValueError(f"line {number} is not {2 * LEAST_KEY_BYTES} hexadecimal digits or more")
    return key


def _encode(capability: Capability) -> bytes:
    names = (
        capability.transfer_id,
        capability.request_id,
        capability.prompt_worker,
        capability.token_worker,
    )
    numbers = _NUMBERS.pack(capability.num_tokens, capability.not_after_unix_ms)
    return bytes([VERSION]) + _framed(*(name.encode() for name in names)) + numbers


def _framed(*parts: bytes) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _decode(body: bytes) -> Capability:
    """Of what a key holder has made: what does not read is its bug, and still is refused."""
    names, at = [], 1
    try:
        for _ in range(4):
            (length,) = _LENGTH.unpack_from(body, at)
            at += _LENGTH.size + length
            names.append(body[at - length : at].decode())
        num_tokens, not_after_unix_ms = _NUMBERS.unpack(body[at:])
    except (StructError, UnicodeDecodeError):
        raise NotAllowed(Refusal.MALFORMED, "the capability's fields do not read") from None
    transfer_id, request_id, prompt_worker, token_worker = names
    return Capability(
        transfer_id, request_id, prompt_worker, token_worker, num_tokens, not_after_unix_ms
    )
