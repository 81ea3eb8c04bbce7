"""Whatever a valid spec says, its objects are whole, and the processes take their arguments."""

from collections.abc import Callable

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitwise_core.quantity import quantity
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.render import render
from splitwise_router.main import _parser as router_parser
from splitwise_sidecar import config as sidecar_config
from splitwise_worker import config as worker_config
from tests.operator.rendered import Object, all_pods, arguments, cluster, containers, deployment


def text(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True)


NAMES = text(r"[a-z][a-z0-9-]{0,8}[a-z0-9]").filter(lambda name: name != "router")
POOL = st.fixed_dictionaries(
    {"name": NAMES, "role": st.sampled_from(["prompt", "token", "mixed"])},
    optional={
        "replicas": st.integers(1, 1000),
        "kvMemory": text(r"([1-9][0-9]{0,3})(Mi|Gi)"),
        "maxSequences": st.integers(1, 1024),
        "gpu": st.just({}),
        "resources": st.fixed_dictionaries({}, optional={"cpu": text(r"[1-9][0-9]?0m")}),
    },
)
TLS: list[Object] = [
    {"mode": "Plaintext"},
    {"mode": "Secret", "secretName": "kv.tls"},
    {"mode": "Secret", "secretName": "kv", "serverName": "kv.example.com"},
]
SPECS = st.fixed_dictionaries(
    {"pools": st.lists(POOL, max_size=5, unique_by=lambda pool: pool["name"])},
    optional={
        "scheduling": st.fixed_dictionaries(
            {},
            optional={
                "promptBatchTokens": st.integers(1, 131072),
                "overflowTokens": st.integers(0, 10**6),
                "disaggregation": st.sampled_from(["Always", "Auto"]),
                "borrowing": st.booleans(),
                "repurposeSeconds": st.integers(1, 86400),
            },
        ),
        "transfer": st.fixed_dictionaries(
            {}, optional={"leaseSeconds": st.integers(2, 300), "tls": st.sampled_from(TLS)}
        ),
        "router": st.fixed_dictionaries(
            {},
            optional={
                "port": st.integers(1, 65535),
                "requestTimeoutSeconds": st.integers(1, 86400),
                "retries": st.integers(0, 10),
                "statusPage": st.booleans(),
                "requestLog": st.sampled_from(["off", "requests", "placements"]),
            },
        ),
    },
)

PARSERS: dict[str, Callable[[list[str]], object]] = {
    "worker": worker_config.parse,
    "kv": sidecar_config.parse,
    "router": lambda given: router_parser().parse_args(given),
}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=SPECS, name=NAMES)
def test_every_valid_spec_gives_objects_that_are_whole(spec: Object, name: str) -> None:
    mixed = {"name": "always-here", "role": "mixed"}
    made = cluster(meta={"name": name}, **spec | {"pools": [*spec["pools"], mixed]})
    objects = render(made)
    assert list(yaml.safe_load_all(yaml.safe_dump_all(objects))) == objects
    named = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(named)) == len(named)
    assert all(len(name) <= 63 for kind, name in named if kind != "Deployment")
    for container in (c for spec in all_pods(objects) for c in containers(spec)):
        PARSERS[container["name"]](arguments(container))
    check_totals(made, objects)


def check_totals(made: SplitwiseCluster, objects: list[Object]) -> None:
    """Replicas and KV memory of the objects are those of the spec."""
    for pool in made.spec.pools:
        workers = deployment(objects, f"{made.metadata.name}-{pool.name}")
        assert workers["spec"]["replicas"] == pool.seed
        worker = workers["spec"]["template"]["spec"]["containers"][0]
        parsed = worker_config.parse(arguments(worker))
        assert parsed.kv_memory == quantity(pool.kv_memory)
