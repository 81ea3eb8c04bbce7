"""The status of our two kinds, as a structural schema: what the operator writes and people read."""

from typing import Any, Final

Schema = dict[str, Any]


def _text(about: str) -> Schema:
    return {"type": "string", "description": about}


def _number(about: str) -> Schema:
    return {"type": "integer", "description": about}


def _mapping(about: str, **properties: Schema) -> Schema:
    return {"type": "object", "description": about, "properties": properties}


def _keyed_list(about: str, key: str, item: Schema) -> Schema:
    """A list whose entries are told apart by one field of theirs."""
    return {
        "type": "array",
        "description": about,
        "items": item | {"required": [key]},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
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
        "Who has set the replicas last: Spec (this object) or External (the SplitwisePool's scale)."
    ),
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
    pools=_keyed_list("Every pool of the spec.", "name", _POOL),
    router=_mapping(
        "The routers.",
        desired=_number("Routers that there should be."),
        ready=_number("Routers that take requests."),
    ),
    conditions=_keyed_list("See docs/conditions.md.", "type", _CONDITION),
)

POOL_STATUS: Final = _mapping(
    "What the pool is, as the operator sees it.",
    replicas=_number("Pods that exist."),
    readyReplicas=_number("Pods that are ready."),
    selector=_text("Finds the pods: for autoscalers."),
)
