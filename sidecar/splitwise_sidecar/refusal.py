"""Why something cannot be done: a closed outcome for the other side, words for people."""

from typing import Final

from splitwise_core.rpc import kv_pb2

MAX_DETAIL_CHARACTERS: Final = 1000
"""Words of a peer's travel on to the worker, in a datagram that has to stay small."""


class Refused(Exception):
    """Ends one message or one transfer, never the process."""

    def __init__(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        super().__init__(detail[:MAX_DETAIL_CHARACTERS])
        self.outcome = failure(outcome)
        self.detail = detail[:MAX_DETAIL_CHARACTERS]


def failure(outcome: kv_pb2.Outcome) -> kv_pb2.Outcome:
    """The outcome, or INVALID for what another process called a failure and is none."""
    if outcome in (kv_pb2.OUTCOME_UNSPECIFIED, kv_pb2.OK):
        return kv_pb2.INVALID
    return outcome if outcome in kv_pb2.Outcome.values() else kv_pb2.INVALID


def label(outcome: kv_pb2.Outcome) -> str:
    """The outcome as a metric's label and in logs: `digest_mismatch`.

    A number that a peer made up is `invalid`: labels are a closed set.
    """
    known = outcome if outcome in kv_pb2.Outcome.values() else kv_pb2.INVALID
    return kv_pb2.Outcome.Name(known).lower()


def must_be_taken(outcome: kv_pb2.Outcome) -> None:
    """Raises Refused when a peer says of the bytes that it was sent anything but OK."""
    if outcome != kv_pb2.OK:
        raise Refused(outcome, f"the peer refused the bytes: {label(outcome)}")
