"""Where the time of a request goes: queue, prefill, transfer, first decode, and the rest."""

from typing import Final

from monitoring.dashboards.alike import CLUSTERS as SCOPE
from monitoring.dashboards.alike import percentiles
from monitoring.dashboards.board import Board, Row, Variable, at_a_glance
from monitoring.dashboards.panels import (
    REQUESTS_PER_S,
    SECONDS,
    TOKENS,
    Query,
    heat,
    lines,
    number,
)
from monitoring.dashboards.promql import share
from splitwise_core.metrics import router

_STAGES: Final = {
    "1 queue": router.STAGE_QUEUE,
    "2 prefill": router.STAGE_PREFILL,
    "3 transfer": router.STAGE_TRANSFER,
    "4 first decode": router.STAGE_FIRST_DECODE,
}
_ABOUT: Final = {
    "1 queue": "Arrival at the prompt worker to the start of prefill. A rise asks for prompt "
    "workers.",
    "2 prefill": "Start of prefill to the first token, at the prompt worker.",
    "3 transfer": "First token to KV verified at the token worker. A rise blames the link.",
    "4 first decode": "KV verified to the token worker's first token.",
}

_AT_A_GLANCE: Final = at_a_glance(
    *(
        number(
            name[2:].capitalize(),
            f"{_ABOUT[name]} The mean.",
            SECONDS,
            Query(SCOPE.mean(metric), "mean"),
        )
        for name, metric in _STAGES.items()
    ),
    number(
        "Prompt",
        "The mean size of a prompt.",
        TOKENS,
        Query(share(SCOPE.rate(router.PROMPT_TOKENS), SCOPE.count(router.E2E)), "mean"),
    ),
    number(
        "Answer",
        "The mean size of an answer.",
        TOKENS,
        Query(share(SCOPE.rate(router.OUTPUT_TOKENS), SCOPE.count(router.E2E)), "mean"),
    ),
)

_STAGE_BY_STAGE: Final = Row(
    "Stage by stage",
    [
        lines(
            "From arrival to the second token",
            "The mean time of each stage: the first two end with the first token, the others are "
            "the gap before the second. What is short of a prompt's hand-over has no transfer.",
            SECONDS,
            *(Query(SCOPE.mean(metric), name) for name, metric in _STAGES.items()),
            stacked=True,
        ),
        lines(
            "Stages, P90",
            "Nine of ten requests spent less time in each stage.",
            SECONDS,
            *(Query(SCOPE.quantile(0.9, metric), name) for name, metric in _STAGES.items()),
        ),
        *(
            heat(name[2:].capitalize(), _ABOUT[name], SECONDS, SCOPE.buckets(metric), width=6)
            for name, metric in _STAGES.items()
        ),
    ],
)

_AS_CLIENTS_SEE_IT: Final = Row(
    "As clients see it",
    [
        heat(
            "Time to first token",
            "Arrival of a request to its first token, as sent to the client.",
            SECONDS,
            SCOPE.buckets(router.TTFT),
        ),
        heat(
            "Time between tokens",
            "Between two tokens of one request, as sent to the client.",
            SECONDS,
            SCOPE.buckets(router.TBT),
        ),
        lines(
            "Time to first token, and what the prompt worker had of it",
            "The difference is the router's: tokenizing, waiting for capacity, sending.",
            SECONDS,
            Query(SCOPE.mean(router.TTFT), "time to first token"),
            Query(
                f"({SCOPE.mean(router.STAGE_QUEUE)}) + ({SCOPE.mean(router.STAGE_PREFILL)})",
                "queue and prefill",
            ),
            width=8,
        ),
        lines(
            "Whole requests",
            "Arrival of a request to its last token.",
            SECONDS,
            *percentiles(SCOPE, router.E2E, 50, 90, 99),
            width=8,
        ),
        lines(
            "Requests on two workers",
            "Requests that ended, prompts computed, and those of them whose KV moved to another "
            "worker.",
            REQUESTS_PER_S,
            Query(SCOPE.count(router.E2E), "requests"),
            Query(SCOPE.count(router.STAGE_PREFILL), "prompts"),
            Query(SCOPE.count(router.STAGE_TRANSFER), "moved"),
            width=8,
        ),
    ],
)

ANATOMY: Final = Board(
    "splitwise-request",
    "Splitwise / Request anatomy",
    "Where the time of a request goes: queue, prefill, transfer, first decode.",
    [Variable("namespace", several=False), Variable("cluster", several=False)],
    [_AT_A_GLANCE, _STAGE_BY_STAGE, _AS_CLIENTS_SEE_IT],
)
