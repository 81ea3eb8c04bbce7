"""Why something cannot be done: a closed outcome for the other side, words for people."""

from splitwise_core.rpc import kv_pb2


class Refused(Exception):
    """Ends one message or one transfer, never the process."""

    def __init__(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = failure(outcome)
        self.detail = detail


def failure(outcome: kv_pb2.Outcome) -> kv_pb2.Outcome:
    """The outcome, or INVALID for what another process called a failure and is none."""
    if outcome in (kv_pb2.OUTCOME_UNSPECIFIED, kv_pb2.OK):
        return kv_pb2.INVALID
    return outcome if outcome in kv_pb2.Outcome.values() else kv_pb2.INVALID


def label(outcome: kv_pb2.Outcome) -> str:
    """The outcome as a metric's label and in logs: `digest_mismatch`."""
    return kv_pb2.Outcome.Name(outcome).lower()
