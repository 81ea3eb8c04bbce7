"""The fleet's sessions as the columns that the placement policy reads."""

import time
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from splitwise_core.policy.admission import is_committed
from splitwise_core.policy.fleet import ROLES, FleetView
from splitwise_core.policy.links import LinkView
from splitwise_core.policy.stages import NO_STAGES, StageView
from splitwise_router.links import Links
from splitwise_router.session import Revision, Session, revision_of


def pending(session: Session) -> int:
    """Prompt tokens queued on a worker, by the longer of its own account and ours."""
    return max(session.load.queued_tokens, session.claims.prompt_tokens)


def fleet_view(sessions: Sequence[Session], max_queue_s: float) -> FleetView:
    """The fleet in columns.

    What this router has sent counts at once, whether the worker has reported it or not: a queue is
    as long as the longer of the two accounts, and room is the smaller of the two. A worker with
    enough prompts has room for nothing: on a mixed one they would go before what decodes.
    """
    infos = [s.info for s in sessions if s.info is not None]
    claims = [s.claims for s in sessions]
    loads = [s.load for s in sessions]
    prompts = [pending(s) for s in sessions]
    numbers: dict[Revision, int] = {}
    return FleetView(
        role=[ROLES[s.endpoint.role] for s in sessions],
        revision=[numbers.setdefault(revision_of(s), len(numbers)) for s in sessions],
        ready=[True] * len(sessions),
        pending_prompt_tokens=prompts,
        pending_tokens=[max(load.running_tokens, c.kv_tokens) for load, c in zip(loads, claims)],
        free_blocks=[
            min(load.free_blocks, i.num_blocks - c.blocks)
            for load, i, c in zip(loads, infos, claims)
        ],
        free_sequences=[
            0
            if is_committed(queued, load.prompt_tokens_per_s, max_queue_s)
            else min(load.free_sequences, i.max_sequences - s.running)
            for load, i, s, queued in zip(loads, infos, sessions, prompts)
        ],
        block_tokens=[max(1, i.block_tokens) for i in infos],
        borrowed=[_is_borrowed(s) for s in sessions],
    )


def _is_borrowed(session: Session) -> bool:
    """Whether a worker serves the other phase too, by its own account or by ours."""
    ours = {"token": session.claims.prompt_tokens > 0, "prompt": session.claims.decoding > 0}
    return session.load.borrowed or ours.get(session.endpoint.role, False)


def link_view(sessions: Sequence[Session], links: Links) -> LinkView:
    """The links between these workers; KV is of one size for all of them."""
    infos = [s.info for s in sessions if s.info is not None]
    return LinkView(
        number=[i.incarnation for i in infos],
        tokens_per_s=[s.prompt_tokens_per_s for s in sessions],
        known=links.known,
        token_bytes=max((i.kv_token_bytes for i in infos), default=0),
        layers=max((i.num_layers for i in infos), default=1),
    )


def stage_view(sessions: Sequence[Session], answer_share: float) -> StageView:
    """What the stages take on these workers; nothing as long as no worker has measured a stage.

    A worker that has not is taken to be like the others: a token worker has computed no prompt yet.
    """
    loads = [s.load for s in sessions]
    speeds = [s.load.prompt_tokens_per_s or s.prompt_tokens_per_s for s in sessions]
    stepped = [load.step_base_s + load.step_slope_s > 0 for load in loads]
    if not any(speeds) or not any(stepped):
        return NO_STAGES
    speed = fmean(filter(None, speeds))
    base_s = fmean(load.step_base_s for load, has in zip(loads, stepped) if has)
    slope_s = fmean(load.step_slope_s for load, has in zip(loads, stepped) if has)
    return StageView(
        prompt_tokens_per_s=[own or speed for own in speeds],
        step_base_s=[load.step_base_s if has else base_s for load, has in zip(loads, stepped)],
        step_slope_s=[load.step_slope_s or slope_s for load in loads],
        decoding=[max(s.load.running, s.claims.decoding) for s in sessions],
        prompt_share=[load.prompt_share for load in loads],
        answer_share=answer_share,
    )


def duties(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """Connected workers by name, and which of them serve the other pool's phase too.

    `borrowedSeconds` is None where a worker does not; `misplaced` proposes to move a replica of its
    pool to the other one.
    """
    now_s = time.monotonic()
    return [
        {
            "pod": session.endpoint.pod,
            "pool": session.endpoint.pool,
            "role": session.endpoint.role,
            "borrowedSeconds": since_s and round(now_s - since_s, 1),
            "misplaced": session.load.should_change,
        }
        for session in sorted(sessions, key=lambda session: session.endpoint.pod)
        if session.info is not None
        for since_s in [session.borrowed_s]
    ]
