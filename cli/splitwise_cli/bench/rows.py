"""A row for each right answer, in the columns of `splitwise simulate --out`, to compare both."""

import csv
from typing import TextIO

from splitwise_cli.bench.answers import Answer, Outcome
from splitwise_planner.outcome import COLUMNS


class Rows:
    """Writes answers to a file as they end; `request_id` counts the load's requests from 0."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(COLUMNS)

    def add(self, answer: Answer) -> None:
        """A row of a right answer that had text; nothing of others. Times in seconds."""
        if answer.outcome is not Outcome.OK or answer.ttft_s is None:
            return
        self._writer.writerow(
            (
                answer.number,
                answer.e2e_s,
                _seconds(answer, "queue_ms"),
                answer.ttft_s,
                (answer.e2e_s - answer.ttft_s) / answer.output_tokens,
                _seconds(answer, "transfer_ms"),
                answer.asked.prompt_tokens,
                answer.output_tokens,
            )
        )


def _seconds(answer: Answer, stage: str) -> float | str:
    """A stage that the server tells of; empty where it tells none."""
    told = answer.told(stage)
    return "" if told is None else told / 1000
