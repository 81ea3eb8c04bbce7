"""What a cluster's objects are: the same spec gives the same bytes, and every part its due."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitwise_core.manifest import parse_cluster
from splitwise_core.quantity import quantity
from splitwise_core.spec import SplitwiseCluster, SplitwisePool
from splitwise_operator.render import render
from splitwise_router.main import _parser as router_parser
from splitwise_sidecar import config as sidecar_config
from splitwise_worker import config as worker_config

Object = dict[str, Any]

POOLS = [
    {"name": "prompt", "role": "prompt", "replicas": 2},
    {"name": "token", "role": "token", "replicas": 3},
]


def cluster(*, pools: list[Object] = POOLS, meta: Object | None = None, **spec: Any) -> Any:
    """A cluster called demo."""
    return parse_cluster(
        {
            "apiVersion": "splitwise.dev/v1alpha1",
            "kind": "SplitwiseCluster",
            "metadata": {"name": "demo", **(meta or {})},
            "spec": {"model": {"name": "tiny", "path": "/models/tiny"}, "pools": pools, **spec},
        }
    )


def one(objects: list[Object], kind: str, name: str) -> Object:
    """The object of a kind and a name; there must be exactly one."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def deployment(objects: list[Object], name: str) -> Object:
    """The Deployment of a pool, by `<cluster>-<pool>`; there must be exactly one."""
    (found,) = [o for o in objects if o["kind"] == "Deployment" and called(o) == name]
    return found


def called(item: Object) -> str:
    labels = item["metadata"]["labels"]
    return f"{labels['splitwise.dev/cluster']}-{labels['splitwise.dev/pool']}"


def pod(objects: list[Object], name: str) -> Object:
    """The pod spec of a pool, by `<cluster>-<pool>`."""
    spec: Object = deployment(objects, name)["spec"]["template"]["spec"]
    return spec


def containers(spec: Object) -> list[Object]:
    """All containers of a pod, the sidecars first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def all_pods(objects: list[Object]) -> list[Object]:
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]


def arguments(container: Object) -> list[str]:
    """A container's arguments as its process gets them, its own variables filled in."""
    filled = []
    for argument in container["args"]:
        for variable in container["env"]:
            argument = argument.replace(f"$({variable['name']})", "127.0.0.1")
        filled.append(argument)
    return filled


def template(objects: list[Object], name: str) -> Object:
    made: Object = deployment(objects, name)["spec"]["template"]
    return made


def revision(objects: list[Object], name: str) -> str:
    return str(template(objects, name)["metadata"]["labels"]["splitwise.dev/revision"])


def test_the_same_spec_gives_the_same_bytes() -> None:
    first, second = (json.dumps(render(cluster())) for _ in range(2))
    assert first == second


def test_what_is_left_out_is_the_same_as_its_default() -> None:
    spoken = cluster(router={"port": 8000}, transfer={"leaseSeconds": 10})
    assert render(cluster()) == render(spoken)


def test_what_pods_need_comes_before_them() -> None:
    objects = render(cluster())
    first = next(n for n, o in enumerate(objects) if o["kind"] == "Deployment")
    needed = {"ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap"}
    assert {o["kind"] for o in objects[:first]} >= needed
    assert not needed & {o["kind"] for o in objects[first:]}


def test_workers_of_each_revision_are_a_deployment_of_their_own() -> None:
    before = render(cluster())
    after = render(cluster(model={"name": "tiny", "path": "/models/new"}))
    names = {deployment(objects, "demo-prompt")["metadata"]["name"] for objects in (before, after)}
    assert names == {f"demo-prompt-{revision(o, 'demo-prompt')}" for o in (before, after)}
    assert len(names) == 2
    routers = {
        deployment(objects, "demo-router")["metadata"]["name"] for objects in (before, after)
    }
    assert routers == {"demo-router"}


@pytest.mark.parametrize(("name", "replicas"), [("prompt", 2), ("token", 3)])
def test_a_pool_is_an_object_to_scale_a_headless_service_and_a_deployment(
    name: str, replicas: int
) -> None:
    objects = render(cluster())
    scaled = SplitwisePool.model_validate(one(objects, "SplitwisePool", f"demo-{name}"))
    assert (scaled.spec.cluster, scaled.spec.pool, scaled.spec.replicas) == ("demo", name, replicas)
    service = one(objects, "Service", f"demo-{name}")["spec"]
    assert service["clusterIP"] == "None"
    workers = deployment(objects, f"demo-{name}")["spec"]
    assert workers["replicas"] == replicas
    selected = {"splitwise.dev/cluster": "demo", "splitwise.dev/pool": name}
    assert service["selector"] == selected
    of_revision = selected | {"splitwise.dev/revision": revision(objects, f"demo-{name}")}
    assert workers["selector"]["matchLabels"] == of_revision
    assert of_revision.items() <= workers["template"]["metadata"]["labels"].items()


def test_ports_of_services_are_those_of_their_pods() -> None:
    objects = render(cluster(router={"port": 9000}))
    for service in (o for o in objects if o["kind"] == "Service"):
        spec = pod(objects, called(service))
        opened = {p["name"]: p["containerPort"] for c in containers(spec) for p in c["ports"]}
        for port in service["spec"]["ports"]:
            assert opened[port["targetPort"]] == port["port"]
    assert pod(objects, "demo-router")["containers"][0]["ports"][0]["containerPort"] == 9000


def test_probes_ask_ports_that_their_container_opens() -> None:
    for container in (c for spec in all_pods(render(cluster())) for c in containers(spec)):
        opened = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in opened


def test_the_sidecar_starts_before_the_worker_and_stops_after_it() -> None:
    spec = pod(render(cluster()), "demo-prompt")
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" in sidecar
    (worker,) = spec["containers"]
    shared = {mount["name"] for mount in worker["volumeMounts"]}
    assert "run" in shared & {mount["name"] for mount in sidecar["volumeMounts"]}


def test_what_is_mounted_is_a_volume_of_the_pod() -> None:
    for spec in all_pods(render(cluster())):
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = {m["name"] for c in containers(spec) for m in c["volumeMounts"]}
        assert mounted == volumes


def test_no_process_may_more_than_it_must() -> None:
    for spec in all_pods(render(cluster())):
        is_router = spec["containers"][0]["name"] == "router"
        assert spec["automountServiceAccountToken"] is is_router
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in containers(spec):
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
    for name in ("demo", "demo-router"):
        account = one(render(cluster()), "ServiceAccount", name)
        assert account["automountServiceAccountToken"] is False


def test_routers_may_see_where_workers_are_and_workers_nothing() -> None:
    objects = render(cluster())
    (rule,) = one(objects, "Role", "demo-router")["rules"]
    assert (rule["resources"], rule["verbs"]) == (["endpointslices"], ["list", "watch"])
    (subject,) = one(objects, "RoleBinding", "demo-router")["subjects"]
    assert subject["name"] == pod(objects, "demo-router")["serviceAccountName"]
    assert pod(objects, "demo-prompt")["serviceAccountName"] == "demo"


def test_a_worker_takes_requests_from_routers_and_kv_from_workers() -> None:
    objects = render(cluster())
    requests, kv, metrics = one(objects, "NetworkPolicy", "demo-workers")["spec"]["ingress"]
    assert [port["port"] for port in requests["ports"]] == [50051]
    assert requests["from"][0]["podSelector"]["matchExpressions"][0]["values"] == ["router"]
    assert [port["port"] for port in kv["ports"]] == [50052]
    assert "router" not in kv["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert "from" not in metrics
    off = render(cluster(networkPolicy={"enabled": False}))
    assert not [o for o in off if o["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("name", ["prompt", "token", "router"])
def test_node_drains_take_one_pod_of_a_pool_at_a_time(name: str) -> None:
    budget = one(render(cluster()), "PodDisruptionBudget", f"demo-{name}")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"]["splitwise.dev/pool"] == name


def test_only_the_sidecar_gets_rdma() -> None:
    rdma = {"rdma": {"resource": "rdma/hca", "count": 2}, "requireRdma": True}
    spec = pod(render(cluster(transfer=rdma)), "demo-prompt")
    sidecar, worker = containers(spec)
    assert sidecar["resources"]["limits"] == {"rdma/hca": "2"}
    assert sidecar["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert "rdma/hca" not in worker["resources"].get("limits", {})
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "--require-rdma" in sidecar["args"]


def test_workers_are_wished_near_each_other_and_tolerate_what_they_are_told() -> None:
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    objects = render(
        cluster(
            pools=[POOLS[0] | {"tolerations": [taint]}, POOLS[1]],
            transfer={"topologyKey": "topology.kubernetes.io/zone"},
        )
    )
    spec = pod(objects, "demo-prompt")
    assert spec["tolerations"] == [taint]
    assert "tolerations" not in pod(objects, "demo-token")
    (wish,) = spec["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert wish["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"


def test_a_template_of_the_user_goes_over_our_pods_by_name() -> None:
    template = {
        "metadata": {"annotations": {"mesh": "off"}, "labels": {"team": "a"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [
                {"name": "worker", "image": "mine", "env": [{"name": "A", "value": "b"}]},
                {"name": "log", "image": "logger"},
            ],
        },
    }
    plain = pod(render(cluster()), "demo-prompt")
    objects = render(cluster(pools=[POOLS[0] | {"podTemplate": template}, POOLS[1]]))
    made = deployment(objects, "demo-prompt")["spec"]["template"]
    assert made["metadata"]["annotations"] == {"mesh": "off"}
    assert made["metadata"]["labels"]["team"] == "a"
    worker, log = made["spec"]["containers"]
    assert (worker["image"], log["image"]) == ("mine", "logger")
    assert worker["args"] == plain["containers"][0]["args"]
    assert {"name": "A", "value": "b"} in worker["env"]
    assert worker["env"][: len(plain["containers"][0]["env"])] == plain["containers"][0]["env"]
    assert made["spec"]["priorityClassName"] == "high"
    assert made["spec"]["initContainers"] == plain["initContainers"]


def test_a_model_may_be_in_a_claim() -> None:
    model = {"name": "tiny", "path": "/a/tiny", "claim": "weights"}
    for spec in all_pods(render(cluster(model=model))):
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "model"]
        assert volume["persistentVolumeClaim"] == {"claimName": "weights", "readOnly": True}
        mounts = [m for c in containers(spec) for m in c["volumeMounts"] if m["name"] == "model"]
        assert {mount["subPath"] for mount in mounts} == {"a/tiny"}


def test_the_model_is_read_only() -> None:
    for spec in all_pods(render(cluster())):
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "model"]
        assert volume["hostPath"] == {"path": "/models/tiny", "type": "Directory"}
        mounts = [m for c in containers(spec) for m in c["volumeMounts"] if m["name"] == "model"]
        assert all(mount["readOnly"] for mount in mounts)


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        pytest.param(
            {"pools": [POOLS[0] | {"replicas": 9}, POOLS[1]]}, set(), id="replicas: nothing"
        ),
        pytest.param({"meta": {"labels": {"team": "a"}}}, set(), id="the user's labels: nothing"),
        pytest.param(
            {"pools": [POOLS[0] | {"kvMemory": "2Gi"}, POOLS[1]]},
            {"prompt"},
            id="KV memory: a pool",
        ),
        pytest.param({"pools": [POOLS[0], POOLS[1] | {"gpu": {}}]}, {"token"}, id="GPUs: a pool"),
        pytest.param({"router": {"retries": 0}}, {"router"}, id="retries: the router"),
        pytest.param({"router": {"replicas": 4}}, set(), id="routers: nothing"),
        pytest.param(
            {"transfer": {"leaseSeconds": 20}}, {"prompt", "token"}, id="leases: all workers"
        ),
        pytest.param(
            {"model": {"name": "tiny", "path": "/models/new"}},
            {"prompt", "token", "router"},
            id="another model: everything",
        ),
    ],
)
def test_pods_are_replaced_when_something_shapes_them_anew(
    changes: dict[str, Any], moves: set[str]
) -> None:
    before, after = render(cluster()), render(cluster(**changes))
    names = ("prompt", "token", "router")
    moved = {n for n in names if template(before, f"demo-{n}") != template(after, f"demo-{n}")}
    assert moved == moves


@pytest.mark.parametrize(
    ("changes", "is_new"),
    [
        pytest.param({"model": {"name": "tiny", "path": "/models/new"}}, True, id="the model"),
        pytest.param(
            {"model": {"name": "tiny", "path": "/models/tiny", "dtype": "bfloat16"}},
            True,
            id="its weights' type",
        ),
        pytest.param({"transfer": {"leaseSeconds": 20}}, False, id="leases"),
        pytest.param(
            {"pools": [POOLS[0] | {"kvMemory": "2Gi"}, POOLS[1]]}, False, id="memory of one pool"
        ),
    ],
)
def test_a_revision_is_what_workers_of_all_pools_must_share(
    changes: dict[str, Any], is_new: bool
) -> None:
    before, after = render(cluster()), render(cluster(**changes))
    assert revision(after, "demo-prompt") == revision(after, "demo-token")
    assert (revision(before, "demo-prompt") != revision(after, "demo-prompt")) == is_new


def test_a_worker_knows_its_revision() -> None:
    worker = pod(render(cluster()), "demo-prompt")["containers"][0]
    (variable,) = [v for v in worker["env"] if v["name"] == "REVISION"]
    path = variable["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['splitwise.dev/revision']"


def test_a_pool_gets_its_gpu_its_nodes_and_its_resources() -> None:
    rich = POOLS[0] | {
        "gpu": {"resource": "amd.com/gpu"},
        "nodeSelector": {"gpu": "mi300"},
        "resources": {"cpu": 4, "memory": "64Gi"},
    }
    objects = render(cluster(pools=[rich, POOLS[1]]))
    spec = pod(objects, "demo-prompt")
    amounts = {"cpu": "4", "memory": "64Gi", "amd.com/gpu": "1"}
    worker = spec["containers"][0]
    assert worker["resources"] == {"requests": amounts, "limits": amounts}
    assert spec["nodeSelector"] == {"gpu": "mi300"}
    plain = pod(objects, "demo-token")
    assert "nodeSelector" not in plain
    assert not plain["containers"][0]["resources"]


def test_labels_and_annotations_of_the_user_go_along_and_never_win() -> None:
    meta = {
        "namespace": "team-a",
        "labels": {"team": "a", "app.kubernetes.io/name": "mine"},
        "annotations": {"owner": "me"},
    }
    for item in render(cluster(meta=meta)):
        assert item["metadata"]["namespace"] == "team-a"
        assert item["metadata"]["labels"]["team"] == "a"
        assert item["metadata"]["annotations"]["owner"] == "me"
        if item["kind"] in ("Service", "Deployment"):
            assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "splitwise"


def test_the_router_is_started_as_the_spec_says() -> None:
    asked = cluster(
        model={"name": "big", "path": "/m", "maxLength": 4096},
        scheduling={"overflowTokens": 77},
        router={
            "port": 9000,
            "requestTimeoutSeconds": 60,
            "maxQueuedRequests": 5,
            "maxBodyBytes": 4096,
            "retries": 1,
        },
    )
    router = pod(render(asked), "demo-router")["containers"][0]
    parsed = router_parser().parse_args(arguments(router))
    assert parsed.listen == "127.0.0.1:9000"
    assert (parsed.model_name, parsed.max_length, parsed.overflow_tokens) == ("big", 4096, 77)
    assert (parsed.request_timeout, parsed.max_queued, parsed.max_body) == (60, 5, 4096)
    assert parsed.retries == 1


def test_a_worker_is_started_as_the_spec_says() -> None:
    pool = POOLS[0] | {"kvMemory": "1.5Gi", "maxSequences": 12}
    asked = cluster(
        pools=[pool, POOLS[1]],
        model={"name": "big", "path": "/m", "maxLength": 4096, "dtype": "int8"},
        scheduling={"promptBatchTokens": 99},
        transfer={"leaseSeconds": 7},
    )
    worker = pod(render(asked), "demo-prompt")["containers"][0]
    parsed = worker_config.parse(arguments(worker))
    assert (parsed.pool, parsed.role) == ("prompt", "prompt")
    assert (parsed.model_name, parsed.max_length, parsed.dtype) == ("big", 4096, "int8")
    assert (parsed.kv_memory, parsed.max_sequences) == (3 * 2**29, 12)
    assert (parsed.prompt_batch_tokens, parsed.lease_seconds) == (99, 7)


@pytest.mark.parametrize(("transport", "wanted"), [("Auto", None), ("GRPC", ("grpc",))])
def test_a_sidecar_moves_kv_as_the_spec_says(
    transport: str, wanted: tuple[str, ...] | None
) -> None:
    asked = cluster(transfer={"transport": transport})
    spec = pod(render(asked), "demo-token")
    sidecar, worker = containers(spec)
    parsed = sidecar_config.parse(arguments(sidecar))
    assert parsed.transports == (wanted or sidecar_config.TRANSPORTS)
    attached = worker_config.parse(arguments(worker))
    assert parsed.socket == attached.sidecar_socket
    assert parsed.listen == attached.sidecar_address


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
SPECS = st.fixed_dictionaries(
    {"pools": st.lists(POOL, max_size=5, unique_by=lambda pool: pool["name"])},
    optional={
        "scheduling": st.fixed_dictionaries(
            {},
            optional={
                "promptBatchTokens": st.integers(1, 131072),
                "overflowTokens": st.integers(0, 10**6),
            },
        ),
        "transfer": st.fixed_dictionaries({}, optional={"leaseSeconds": st.integers(2, 300)}),
        "router": st.fixed_dictionaries(
            {},
            optional={
                "port": st.integers(1, 65535),
                "requestTimeoutSeconds": st.integers(1, 86400),
                "retries": st.integers(0, 10),
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
