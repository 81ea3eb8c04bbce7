"""What is still known of leases that are over: for calls that come again, or too late."""

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from splitwise_core.capability import NotAllowed, Refusal
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.refusal import Refused

REMEMBERED: Final = 4096
"""At some 300 bytes each, 1.2 MB. Of a lease before them nothing is known, and nothing allowed."""


@dataclass(frozen=True, slots=True)
class Over:
    """A lease that is over: who held it (empty: nobody), and whether its KV was verified."""

    holder: bytes
    is_verified: bool


class Past:
    """The last leases that are over."""

    def __init__(self) -> None:
        self._over: OrderedDict[str, Over] = OrderedDict()

    def add(self, transfer_id: str, over: Over) -> None:
        """A lease has ended."""
        self._over[transfer_id] = over
        self._over.move_to_end(transfer_id)
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    def check_not_over(self, transfer_id: str, write_token: bytes) -> None:
        """Raises Refused for a lease that is over, NotAllowed when another has held it."""
        if over := self._over.get(transfer_id):
            if over.holder and not hmac.compare_digest(over.holder, write_token):
                raise NotAllowed(Refusal.SPENT, "another has held the lease, and it is over")
            raise Refused(kv_pb2.UNKNOWN_TRANSFER, f"the lease {transfer_id!r} is over")

    def find(self, transfer_id: str) -> Over | None:
        """The last lease of this transfer, if it is over and not forgotten."""
        return self._over.get(transfer_id)

    def is_verified(self, transfer_id: str) -> bool:
        """Whether the KV of this transfer was verified."""
        over = self._over.get(transfer_id)
        return over is not None and over.is_verified
