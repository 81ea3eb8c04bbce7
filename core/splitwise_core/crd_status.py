"""The status of our two kinds, as a structural schema: what the operator writes and people read."""

from collections.abc import Sequence
from typing import Any, Final

Schema = dict[str, Any]


def _text(about: str) -> Schema:
    return {"type": "string", "description": about}


def _number(about: str) -> Schema:
    return {"type": "integer", "description": about}


def _mapping(about: str, **properties: Schema) -> Schema:
    return {"type": "object", "description": about, "properties": properties}


def _keyed_list(about: str, keys: Sequence[str], item: Schema) -> Schema:
    """A list whose entries are told apart by these fields of theirs."""
    return {
        "type": "array",
        "description": about,
        "items": item | {"required": list(keys)},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
    }


_CONDITION: Final = _mapping(
    "One thing that is true of the cluster, is not, or is not known.",
    type=_text("What it is about; docs/conditions.md lists all."),
    status={"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether."},
    reason=_text("Why, in one word that programs may rely on."),
    message=_text("Why, for people, with what to do about it."),
    lastTransitionTime={
        "type": "string",
        "format": "date-time",
        "description": "When status changed last.",
    },
    observedGeneration=_number("The generation of the spec that it is about."),
)

_POOL: Final = _mapping(
    "One pool.",
    name=_text("The pool's name."),
    role=_text("prompt, token or mixed."),
    desired=_number("Workers that there should be."),
    current=_number("Worker pods that exist."),
    ready=_number("Workers that take requests."),
    updated=_number("Ready workers of the current revision."),
    draining=_number("Workers that end what they have begun, and then themselves."),
    scaledBy=_text(
        "Who has set the replicas last: Spec (this object), Autoscaler (the operator, by the load) "
        "or External (the SplitwisePool's scale)."
    ),
)

_TRANSFER: Final = _mapping(
    "How KV moves from the prompt workers of one pool to the token workers of another.",
    **{"from": _text("The pool that computes prompts."), "to": _text("The pool that generates.")},
    transport=_text("What most of the links use; none while none works."),
    bytesPerSecond=_number("Of the middle link, digests counted in; 0 when not known."),
    latencySeconds={
        "type": "number",
        "description": "Of a transfer of next to no bytes, over the middle link.",
    },
    measuredAt={
        "type": "string",
        "format": "date-time",
        "description": "When these numbers were measured. They are renewed when they have changed "
        "much; the metrics have them as they are now.",
    },
    pairs=_number("Pairs of workers that may meet."),
    measured=_number("Of these, measured so far."),
    failing=_number("Of these, those over which KV does not get there."),
    reason=_text("One of the failing pairs, and why; the router's log has all."),
)

_SCALING: Final = _mapping(
    "One decision of the autoscaler.",
    time={"type": "string", "format": "date-time", "description": "When."},
    pool=_text("The pool."),
    **{"from": _number("Workers before."), "to": _number("Workers after.")},
    reason=_text("Why; docs/scaling.md lists all."),
    inputs={
        "type": "object",
        "description": "The numbers that it was told from.",
        "additionalProperties": {"type": "number"},
    },
)

_ADVICE: Final = _mapping(
    "Whether this load should be disaggregated over these workers; docs/scaling.md says how it is "
    "told.",
    verdict=_text("Split, Together, Either or Unknown."),
    reason=_text("Why, in one word."),
    message=_text("Why, for people."),
    confidence=_text("High, Medium or Low: by how many requests, and how well the formulas fit."),
    promptWorkers=_number("Workers for prompts in the best split."),
    tokenWorkers=_number("Workers for tokens in it."),
    time={"type": "string", "format": "date-time", "description": "When it was told."},
    inputs={
        "type": "object",
        "description": "The numbers that it was told from, of the ten minutes before.",
        "additionalProperties": {"type": "number"},
    },
)

CLUSTER_STATUS: Final = _mapping(
    "What the cluster is, as the operator sees it.",
    observedGeneration=_number("The generation of the spec that this is about."),
    revision=_text("Of the workers that the spec asks for: over the model and the images."),
    endpoint=_text("Where the OpenAI API is, within Kubernetes."),
    workers=_mapping(
        "Ready and desired workers by role, for people.",
        prompt=_text("As 1/2."),
        token=_text("As 1/2."),
        mixed=_text("As 1/2."),
    ),
    pools=_keyed_list("Every pool of the spec.", ("name",), _POOL),
    router=_mapping(
        "The routers.",
        desired=_number("Routers that there should be."),
        ready=_number("Routers that take requests."),
    ),
    transfer=_keyed_list("Every pair of pools that has been measured.", ("from", "to"), _TRANSFER),
    scaling={
        "type": "array",
        "description": "The last decisions of the autoscaler, the newest last.",
        "items": _SCALING,
        "maxItems": 10,
    },
    advice=_ADVICE,
    conditions=_keyed_list("See docs/conditions.md.", ("type",), _CONDITION),
)

POOL_STATUS: Final = _mapping(
    "What the pool is, as the operator sees it.",
    replicas=_number("Pods that exist."),
    readyReplicas=_number("Pods that are ready."),
    selector=_text("Finds the pods: for autoscalers."),
)
