"""crds/: the two CustomResourceDefinitions, made from the models of spec.py.

A pydantic model says types, ranges and patterns; Kubernetes wants them as a structural schema. What
the models check in code is said again here as CEL, so that the API server refuses by itself what
`splitwise render` refuses, with the same advice.
"""

from collections.abc import Mapping
from typing import Any, Final

from splitwise_core.crd_rules import (
    AUTOSCALING_RULES,
    POOL_RULES,
    POOLS_SLEEP_RULE,
    RATIO_RULE,
    SCALED_TO_ZERO_RULE,
    SCHEDULING_RULE,
    TLS_RULES,
    TOLERATION_RULES,
    TRANSFER_RULES,
)
from splitwise_core.crd_status import CLUSTER_STATUS, POOL_STATUS
from splitwise_core.fields import GROUP, NAME_LENGTH
from splitwise_core.quantity import CPU, MEMORY, PATTERN
from splitwise_core.spec import SplitwiseCluster, SplitwisePool

Schema = dict[str, Any]

MAP_ENTRIES: Final = 64
"""Entries of a map at most: CEL's cost is bounded by the sizes that the schema allows."""

ANNOTATION_LENGTH: Final = 4096


def custom_resource_definitions() -> dict[str, Schema]:
    """File name under crds/ -> the object in it."""
    cluster = _definition(
        "SplitwiseCluster", "splitwiseclusters", "swc", _cluster_schema(), _CLUSTER_COLUMNS
    )
    pool = _definition("SplitwisePool", "splitwisepools", "swp", _pool_schema(), _POOL_COLUMNS)
    pool["spec"]["versions"][0]["subresources"]["scale"] = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return {f"{made['metadata']['name']}.yaml": made for made in (cluster, pool)}


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Schema:
    """A column of `kubectl get`; with `-o wide` alone when its priority is 1."""
    made = {"name": name, "jsonPath": path, "type": kind}
    return made | {"priority": priority} if priority else made


_AGE: Final = _column("Age", ".metadata.creationTimestamp", "date")
_CLUSTER_COLUMNS: Final = (
    _column("Model", ".spec.model.name"),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
    _column("Prompt", ".status.workers.prompt"),
    _column("Token", ".status.workers.token"),
    _column("Mixed", ".status.workers.mixed"),
    _AGE,
    _column("Endpoint", ".status.endpoint", priority=1),
    _column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
)
_POOL_COLUMNS: Final = (
    _column("Cluster", ".spec.cluster"),
    _column("Role", ".spec.role"),
    _column("Desired", ".spec.replicas", "integer"),
    _column("Current", ".status.replicas", "integer"),
    _column("Ready", ".status.readyReplicas", "integer"),
    _AGE,
)


def _definition(
    kind: str, plural: str, short: str, schema: Schema, columns: tuple[Schema, ...]
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["splitwise"],
            },
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": list(columns),
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


# ---- schemas ----


def _cluster_schema() -> Schema:
    document = SplitwiseCluster.model_json_schema()
    root = _root(document)
    spec = root["properties"]["spec"]
    pools = spec["properties"]["pools"]
    pool = pools["items"]
    pools |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    _quantity(pool, "kvMemory", *MEMORY)
    _quantity(pool["properties"]["resources"], "cpu", *CPU)
    _quantity(pool["properties"]["resources"], "memory", *MEMORY)
    _rules(pool["properties"]["name"], ("self != 'router'", _ROUTER_NAME))
    _rules(pool["properties"]["role"], _immutable("role"))
    _rules(pool, *POOL_RULES)
    _rules(pool["properties"]["autoscaling"], *AUTOSCALING_RULES)
    _rules(spec["properties"]["ratio"], RATIO_RULE)
    _rules(spec["properties"]["scheduling"], SCHEDULING_RULE)
    _rules(pool["properties"]["tolerations"]["items"], *TOLERATION_RULES)
    _rules(spec["properties"]["transfer"], *TRANSFER_RULES)
    _rules(spec["properties"]["transfer"]["properties"]["tls"], *TLS_RULES)
    for owner in (pool, spec["properties"]["router"]):
        template = owner["properties"]["podTemplate"]["properties"]["metadata"]
        _rules(template["properties"]["labels"], _OUR_LABELS)
    _rules(
        pools,
        *(
            (f"self.exists(pool, pool.role in ['{role}', 'mixed'])", _NOTHING_BESIDE.format(role))
            for role in ("prompt", "token")
        ),
        POOLS_SLEEP_RULE,
    )
    root["properties"]["status"] = CLUSTER_STATUS
    name = document["$defs"]["Metadata"]["properties"]["name"]
    _rules(
        root, _cluster_name(name["pattern"], name["maxLength"]), (_POOL_NAMES, _POOL_NAMES_ADVICE)
    )
    return root


def _pool_schema() -> Schema:
    root = _root(SplitwisePool.model_json_schema())
    for field in ("cluster", "pool", "role"):
        _rules(root["properties"]["spec"]["properties"][field], _immutable(field))
    _rules(root["properties"]["spec"], SCALED_TO_ZERO_RULE)
    root["properties"]["status"] = POOL_STATUS
    return root


_OUR_LABELS: Final = (
    f"self.all(key, !key.startsWith('{GROUP}/'))",
    f"labels that begin with {GROUP}/ are set by Splitwise itself; leave them out",
)
_ROUTER_NAME: Final = "'router' is the router's own name; call the pool otherwise"
_NOTHING_BESIDE: Final = "no pool does the {0} phase; add a pool of role {0} or mixed"
_POOL_NAMES: Final = (
    f"self.spec.pools.all(pool, size(self.metadata.name) + 1 + size(pool.name) <= {NAME_LENGTH})"
)
_POOL_NAMES_ADVICE: Final = (
    f"metadata.name: with a pool's name it would be longer than the {NAME_LENGTH} characters that "
    "Kubernetes allows; shorten the cluster's or the pool's name"
)
_LABEL_KEYS: Final = "a key is not one of a label; write it as zone or example.com/zone"


def _cluster_name(pattern: str, length: int) -> tuple[str, str]:
    """A schema cannot say it of metadata.name, which is Kubernetes' own."""
    return (
        f"size(self.metadata.name) <= {length} && self.metadata.name.matches('{pattern}')",
        f"metadata.name: use at most {length} lower-case letters, digits and dashes; "
        "a letter first, no dash last",
    )


def _immutable(field: str) -> tuple[str, str]:
    return "self == oldSelf", f"{field} cannot change; add another pool and remove this one"


def _rules(schema: Schema, *rules: tuple[str, str]) -> None:
    """Adds CEL rules, each with what the user is told."""
    made = [{"rule": rule, "message": message} for rule, message in rules]
    schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *made]


def _quantity(parent: Schema, field: str, least: str, most: str) -> None:
    """Makes a text field one that takes `2` as well as "2Gi", in a range."""
    schema = parent["properties"][field]
    del schema["type"]
    schema |= {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": 40,
        "pattern": f"^{PATTERN}$",
    }
    value = "quantity(string(self))"
    within = (
        f"{value}.compareTo(quantity('{least}')) >= 0 && {value}.compareTo(quantity('{most}')) <= 0"
    )
    _rules(schema, (f"isQuantity(string(self)) && {within}", f"use {least} to {most}"))


def _root(schema: Schema) -> Schema:
    """The structural schema of a whole object; its metadata is Kubernetes' own."""
    root = _structural(schema, schema["$defs"])
    root["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    root["required"] = ["spec"]
    return root


def _structural(schema: Schema, models: Mapping[str, Schema]) -> Schema:
    """A JSON schema as Kubernetes takes it: no references, no null, no closed mappings."""
    if "$ref" in schema:
        model = models[schema["$ref"].rpartition("/")[2]]
        filled: Schema = {"default": {}} if "default" in schema else {}
        own = {"description": schema["description"]} if "description" in schema else {}
        return _structural(model, models) | own | filled
    if "anyOf" in schema:  # a value or null: what may be left out has no default
        (value,) = (choice for choice in schema["anyOf"] if choice.get("type") != "null")
        return _structural(value | {"description": schema["description"]}, models)
    made = {key: value for key, value in schema.items() if key in _KEPT}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    if "properties" in schema:
        fields = schema["properties"].items()
        made["properties"] = {name: _structural(field, models) for name, field in fields}
    if "items" in schema:
        made["items"] = _structural(schema["items"], models)
    if schema.get("additionalProperties") is True:
        del made["default"]
        made["x-kubernetes-preserve-unknown-fields"] = True
    if "patternProperties" in schema:
        ((pattern, value),) = schema["patternProperties"].items()
        length = 63 if "pattern" in value else ANNOTATION_LENGTH
        made["additionalProperties"] = _structural(value, models) | {"maxLength": length}
        made["maxProperties"] = MAP_ENTRIES
        _rules(made, (f"self.all(key, key.matches('{pattern}'))", _LABEL_KEYS))
        del made["default"]  # always {}: the same as being left out
    return made


_KEPT: Final = frozenset(
    {
        *("type", "description", "default", "enum", "pattern", "required"),
        *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"),
    }
)
