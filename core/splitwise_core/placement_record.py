"""A placement as a document: what the cluster scheduler saw and what it chose, to be made again.

A router that logs its placements writes them so; `replayed` asks the very policy anew, as the
router, the simulator and property tests do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from splitwise_core.policy.fleet import FleetView, Members
from splitwise_core.policy.link import Link
from splitwise_core.policy.links import LinkView, failing_of
from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_core.policy.placement import Placement, Reason
from splitwise_core.policy.routing import place
from splitwise_core.policy.stages import StageView

Record = dict[str, Any]
"""What JSON can hold. A worker is its place in the lists."""


def recorded(
    fleet: FleetView,
    prompt_tokens: int,
    max_tokens: int,
    overflow_tokens: int,
    links: LinkView,
    cached: Mapping[int, int],
    mixing: Mixing,
    stages: StageView,
    placement: Placement,
) -> Record:
    """The arguments of `policy.routing.place` and its answer; columns are copied."""
    return {
        "prompt_tokens": prompt_tokens,
        "max_tokens": max_tokens,
        "overflow_tokens": overflow_tokens,
        "fleet": {
            "role": fleet.members.role.tolist(),
            "revision": fleet.members.revision.tolist(),
            "pending_prompt_tokens": fleet.pending_prompt_tokens.tolist(),
            "pending_tokens": fleet.pending_tokens.tolist(),
            "room_tokens": fleet.room_tokens.tolist(),
            "borrowed": fleet.borrowed.tolist(),
        },
        "links": {
            "number": links.number.tolist(),
            "tokens_per_s": links.tokens_per_s.tolist(),
            "known": [[a, b, *link] for a, to in links.known.items() for b, link in to.items()],
            "token_bytes": links.token_bytes,
            "layers": links.layers,
        },
        "cached": list(map(list, cached.items())),
        "mixing": {"borrowing": mixing.borrowing, "disaggregation": mixing.disaggregation.value},
        "stages": {
            "prompt_tokens_per_s": stages.prompt_tokens_per_s.tolist(),
            "token_s": stages.token_s.tolist(),
            "decoding": stages.decoding.tolist(),
            "answer_share": stages.answer_share,
        },
        "chosen": [placement.prompt, placement.token, placement.reason.value],
    }


def chosen(record: Record) -> Placement:
    """What was chosen then."""
    prompt, token, reason = record["chosen"]
    return Placement(prompt, token, Reason(reason))


def replayed(record: Record) -> Placement:
    """What the policy chooses now, seeing the same."""
    fleet, links, stages = record["fleet"], record["links"], record["stages"]
    known: dict[int, dict[int, Link]] = {}
    for a, b, latency_s, bytes_per_s, failing in links["known"]:
        known.setdefault(a, {})[b] = Link(latency_s, bytes_per_s, failing)
    return place(
        FleetView(
            Members(np.array(fleet["role"], np.int8), np.array(fleet["revision"], np.int64)),
            np.array(fleet["pending_prompt_tokens"], np.int64),
            np.array(fleet["pending_tokens"], np.int64),
            np.array(fleet["room_tokens"], np.int64),
            np.array(fleet["borrowed"], np.bool_),
        ),
        record["prompt_tokens"],
        record["max_tokens"],
        record["overflow_tokens"],
        LinkView(
            np.array(links["number"], np.uint64),
            np.array(links["tokens_per_s"], np.float64),
            known,
            links["token_bytes"],
            links["layers"],
            failing_of(known),
        ),
        dict(record["cached"]),
        Mixing(record["mixing"]["borrowing"], Disaggregation(record["mixing"]["disaggregation"])),
        StageView(
            np.array(stages["prompt_tokens_per_s"], np.float64),
            np.array(stages["token_s"], np.float64),
            np.array(stages["decoding"], np.int64),
            stages["answer_share"],
        ),
    )
