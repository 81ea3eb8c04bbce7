"""What workers, sidecars and routers are started with, and what they may do."""

import pytest

from splitwise_operator.render import render
from splitwise_router.main import _parser as router_parser
from splitwise_sidecar import config as sidecar_config
from splitwise_worker import config as worker_config
from tests.operator.rendered import (
    POOLS,
    all_pods,
    arguments,
    cluster,
    containers,
    deployment,
    one,
    pod,
)


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


def test_only_the_sidecar_gets_rdma() -> None:
    device = {"resource": "rdma/hca", "count": 2}
    rdma = {"rdma": device, "requireRdma": True, "tls": {"mode": "Plaintext"}}
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


@pytest.mark.parametrize(
    ("monitoring", "variables"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"logFormat": "json"}, {"SPLITWISE_LOG_FORMAT": "json"}, id="logs"),
        pytest.param(
            {"traces": {"endpoint": "http://c:4317", "sampleRatio": 0.5}},
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.5",
            },
            id="traces",
        ),
    ],
)
def test_monitoring_reaches_every_container(
    monitoring: dict[str, object], variables: dict[str, str]
) -> None:
    for spec in all_pods(render(cluster(monitoring=monitoring))):
        for container in containers(spec):
            given = {v["name"]: v.get("value") for v in container["env"]}
            watching = {n: v for n, v in given.items() if n.startswith(("OTEL_", "SPLITWISE_LOG"))}
            assert watching == variables


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


def test_the_router_is_started_as_the_spec_says() -> None:
    asked = cluster(
        model={"name": "big", "path": "/m", "maxLength": 4096},
        scheduling={"overflowTokens": 77, "borrowing": False, "disaggregation": "Auto"},
        router={
            "port": 9000,
            "requestTimeoutSeconds": 60,
            "maxQueuedRequests": 5,
            "maxQueueSeconds": 2.5,
            "maxBodyBytes": 4096,
            "retries": 1,
            "statusPage": True,
            "requestLog": "placements",
        },
    )
    router = pod(render(asked), "demo-router")["containers"][0]
    parsed = router_parser().parse_args(arguments(router))
    assert parsed.listen == "127.0.0.1:9000"
    assert (parsed.model_name, parsed.max_length, parsed.overflow_tokens) == ("big", 4096, 77)
    assert (parsed.request_timeout, parsed.max_queued, parsed.max_body) == (60, 5, 4096)
    assert parsed.max_queue_seconds == 2.5
    assert (parsed.borrowing, parsed.disaggregation) == ("off", "Auto")
    assert (parsed.retries, parsed.status_page, parsed.request_log) == (1, "on", "placements")


def test_a_worker_is_started_as_the_spec_says() -> None:
    pool = POOLS[0] | {"kvMemory": "1.5Gi", "maxSequences": 12, "maxTbtSeconds": 0.05}
    asked = cluster(
        pools=[pool, POOLS[1]],
        model={"name": "big", "path": "/m", "maxLength": 4096, "dtype": "int8"},
        scheduling={"promptBatchTokens": 99, "repurposeSeconds": 60},
        transfer={"leaseSeconds": 7},
    )
    worker = pod(render(asked), "demo-prompt")["containers"][0]
    parsed = worker_config.parse(arguments(worker))
    assert (parsed.pool, parsed.role) == ("prompt", "prompt")
    assert (parsed.model_name, parsed.max_length, parsed.dtype) == ("big", 4096, "int8")
    assert (parsed.kv_memory, parsed.max_sequences) == (3 * 2**29, 12)
    assert parsed.max_tbt_seconds == 0.05
    assert (parsed.prompt_batch_tokens, parsed.lease_seconds) == (99, 7)
    assert parsed.repurpose_seconds == 60


@pytest.mark.parametrize(
    ("transport", "wanted"),
    [
        ("Auto", None),
        ("SHM", ("shm",)),
        ("RDMA", ("rdma",)),
        ("TCP", ("tcp",)),
        ("GRPC", ("grpc",)),
    ],
)
def test_a_sidecar_moves_kv_as_the_spec_says(
    transport: str, wanted: tuple[str, ...] | None
) -> None:
    rdma = {"rdma": {"resource": "rdma/hca"}, "tls": {"mode": "Plaintext"}}
    asked = cluster(transfer={"transport": transport, **rdma})
    spec = pod(render(asked), "demo-token")
    sidecar, worker = containers(spec)
    parsed = sidecar_config.parse(arguments(sidecar))
    assert parsed.transports == (wanted or sidecar_config.TRANSPORTS)
    attached = worker_config.parse(arguments(worker))
    assert parsed.socket == attached.sidecar_socket
    assert parsed.listen == attached.sidecar_address


def test_routers_and_sidecars_are_given_the_same_capability_keys() -> None:
    objects = render(cluster())
    router = router_parser().parse_args(arguments(containers(pod(objects, "demo-router"))[0]))
    assert router.capability_key is not None
    for name in ("demo-prompt", "demo-token"):
        sidecar = sidecar_config.parse(arguments(containers(pod(objects, name))[0]))
        assert sidecar.capability_key == router.capability_key
