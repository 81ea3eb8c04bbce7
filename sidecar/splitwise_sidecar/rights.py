"""Who may push: the right to a transfer, as one sidecar shows it, and as another checks it.

A capability says whom the router has allowed what. Whoever shows it proves to hold a key as well,
so that a capability which was seen on its way is of no use to others; and the write token, which
the proof covers, is what later calls are known by.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final

from splitwise_core.capability import (
    Capability,
    Keys,
    NotAllowed,
    Refusal,
    is_sealed,
    mint,
    read,
    seal,
)
from splitwise_core.rpc import kv_pb2

WRITE_TOKEN_BYTES: Final = 16
MAX_CHARACTERS: Final = 256
"""Of a name that a peer gives: it goes into answers and into the log."""

ANY_PROBE: Final = "any probe"
"""Stands for the transfer where a right is shown to open a probe, whose id is drawn only then."""

_PURPOSE: Final = b"splitwise claim"
_EPOCH: Final = Struct(">Q")


@dataclass(frozen=True, slots=True)
class Right:
    """The prompt side's right to one transfer."""

    transfer_id: str
    caller: str
    capability: bytes
    write_token: bytes
    keys: Callable[[], Keys]

    def claim(self, epoch: int) -> kv_pb2.Claim:
        """What shows the right to the worker that was attached with this epoch."""
        claim = kv_pb2.Claim(
            caller=self.caller, write_token=self.write_token, capability=self.capability
        )
        if keys := self.keys():
            claim.proof = seal(keys[0], _PURPOSE, *_proven(claim, self.transfer_id, epoch))
        return claim


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the token side has found to be allowed; no capability where none is asked for."""

    write_token: bytes
    capability: Capability | None

    def check_lease(self, request_id: str, num_tokens: int) -> None:
        """Raises NotAllowed unless this lease is what was allowed."""
        if self.capability is not None:
            self.capability.check_lease(request_id, num_tokens)


class Rights:
    """The rights of one attached worker, and those that others show to it.

    `keys()` are those of the moment; without any, no capability is shown, and none is asked for.
    """

    def __init__(self, worker_id: str, keys: Callable[[], Keys]) -> None:
        self._worker_id = worker_id
        self._keys = keys

    def to_push(self, transfer_id: str, capability: bytes) -> Right:
        """The right that the router has given by this capability."""
        write_token = secrets.token_bytes(WRITE_TOKEN_BYTES)
        return Right(transfer_id, self._worker_id, capability, write_token, self._keys)

    def to_probe(
        self, transfer_id: str, token_worker: str, num_tokens: int, not_after_unix_ms: int
    ) -> Right:
        """The right to push what is no request's, or to open ANY_PROBE for it: whoever holds a key
        may make it.

        The lease for it has to bear the transfer's id as its request's.
        """
        keys = self._keys()
        own = Capability(
            transfer_id=transfer_id,
            request_id=transfer_id,
            prompt_worker=self._worker_id,
            token_worker=token_worker,
            num_tokens=num_tokens,
            not_after_unix_ms=not_after_unix_ms,
        )
        return self.to_push(transfer_id, mint(own, keys) if keys else b"")

    def check(self, claim: kv_pb2.Claim, transfer_id: str, epoch: int, now_unix_ms: int) -> Allowed:
        """What the caller may do with this transfer. Raises NotAllowed."""
        if len(claim.write_token) != WRITE_TOKEN_BYTES:
            detail = f"a write token of {len(claim.write_token)} bytes, not {WRITE_TOKEN_BYTES}"
            raise NotAllowed(Refusal.MALFORMED, detail)
        if max(len(claim.caller), len(transfer_id)) > MAX_CHARACTERS:
            detail = f"a name of more than {MAX_CHARACTERS} characters"
            raise NotAllowed(Refusal.MALFORMED, detail)
        keys = self._keys()
        if not keys:
            return Allowed(claim.write_token, None)
        capability = read(claim.capability, keys)
        if not is_sealed(claim.proof, keys, _PURPOSE, *_proven(claim, transfer_id, epoch)):
            detail = f"no key that is known here proves that {claim.caller!r} asks"
            raise NotAllowed(Refusal.UNPROVEN, detail)
        capability.check_call(transfer_id, claim.caller, self._worker_id, now_unix_ms)
        return Allowed(claim.write_token, capability)


def check_holder(holder: bytes, write_token: bytes) -> None:
    """Raises NotAllowed unless the lease was claimed, and with this write token."""
    if not holder or not hmac.compare_digest(holder, write_token):
        raise NotAllowed(Refusal.NOT_HOLDER, "the lease is not the caller's")


def _proven(claim: kv_pb2.Claim, transfer_id: str, epoch: int) -> tuple[bytes, ...]:
    return transfer_id.encode(), _EPOCH.pack(epoch), claim.caller.encode(), claim.write_token
