"""Errors a reader can fix: the place, what is wrong, the fix, and where to read more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

CODES: Final[Mapping[str, str]] = {
    "invalid-spec": "A SplitwiseCluster file has an unknown, missing or impossible value. "
    "Every problem is listed with its path; `splitwise render -f FILE` checks a file alone.",
    "unreadable-file": "A file could not be read or is not the format it should be.",
    "model-missing": "The model directory, or a file that every model needs, is not there.",
    "model-corrupt": "A checkpoint file is truncated, damaged, or holds tensors of another model.",
    "model-unsupported": "The checkpoint's architecture or one of its settings is not implemented.",
    "invalid-sampling": "A sampling parameter is out of its range.",
    "port-taken": "Another process already listens on the address that a component needs.",
    "already-running": "A cluster with this state directory is already up.",
    "not-running": "No cluster is up with this state directory, or no router answers where one was "
    "looked for; the message says what was tried.",
    "start-failed": "A cluster did not become ready in time, or a container of it kept failing.",
    "out-of-memory": "The KV pool does not fit the memory that it was given.",
    "unknown-preset": "`splitwise model random` knows a few shapes; the message lists them.",
    "request-failed": "A router answered with an error, which the message repeats.",
    "certificate-unusable": "The files of a sidecar's certificate are missing, damaged, expired or "
    "of another cluster.",
    "invalid-load": "`splitwise bench` was asked for a load that cannot be: options that exclude "
    "each other, or a number out of its range.",
    "invalid-trace": "A trace lacks a column, has a line that does not read or a value that no "
    "request can have, or, for `splitwise bench`, is not in order of arrival; the message names "
    "the line. [bench.md](bench.md#traces) has the forms that `bench` knows, [cli.md](cli.md) the "
    "planner's.",
    "invalid-catalog": "The planner's file of machines, prices and models lacks something, or the "
    "model is not in it.",
    "invalid-phase-times": "A file of measured phase times has a missing column or an impossible "
    "value, or has none for a machine and model. The message names the line or what lacks.",
    "invalid-benchmark": "A benchmark's file is of none of the forms that `splitwise profile` "
    "knows, or lacks a figure; the message names the record and the field.",
    "invalid-design": "A cluster design is not of the form HH-35P-5T or BH-40P_T.",
    "invalid-plan": "`splitwise plan` was given a number that has no sense.",
    "invalid-day": "A day for `splitwise plan --day` lacks an hour or has one twice, or has a line "
    "that does not read, or a rate that cannot be; the message names the line, or the hours. "
    "[planner.md](planner.md#a-day) has the forms.",
    "plan-impossible": "No design keeps the objectives within the budgets. The message says how "
    "near each came, and what stopped it.",
    "plan-undeployable": "A plan asks for workers that Splitwise has not, so that no cluster file "
    "can be written for it.",
    "environment": "Something that this machine needs for the command is missing.",
}
"""Every stable error code and the first lines of its section in docs/errors.md."""


class UserError(Exception):
    """Something the reader can fix. `code` is stable and a heading of docs/errors.md (tested)."""

    def __init__(self, code: str, *, where: str, wrong: str, fix: str) -> None:
        assert code in CODES, f"error code {code!r} is not declared in CODES"
        super().__init__(f"{where}: {wrong}\n  fix: {fix}\n  more: docs/errors.md#{code}")
        self.code = code
        self.where = where
        self.wrong = wrong
        self.fix = fix


@contextmanager
def writing(where: str) -> Iterator[None]:
    """The block writes the file that `where` names. Raises UserError when that is not possible."""
    try:
        yield
    except OSError as error:
        raise UserError(
            "unreadable-file",
            where=where,
            wrong=f"cannot be written: {error.strerror or error}",
            fix="name a file that can be written",
        ) from error


def reference() -> str:
    """docs/errors.md: every code with what it means."""
    sections = [f"## {code}\n\n{text}\n" for code, text in CODES.items()]
    head = (
        "# Errors\n\nEvery error names the place, what is wrong and the fix. These are the codes.\n"
    )
    return "\n".join([head, *sections])
