"""What the chart renders, and what it refuses. No API server is used."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm import generate
from monitoring import generate as dashboards
from monitoring.rules import SOURCE
from splitwise_core.labels import CLUSTER_LABEL
from tests.helm.release import CHART, NAMESPACE, ROOT, Helm, Object, container, of_kind, operator

EVERYTHING = """
replicas: 3
watchNamespaces: [team-a, team-b]
image: {registry: "registry.example.com/team/", tag: v9, pullSecrets: [pull]}
operands: {worker: {tag: v8}, router: {digest: "sha256:%s"}}
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: control, operator: Exists, effect: NoSchedule}]
affinity: {podAntiAffinity: {}}
topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}
monitoring:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  podMonitor: {enabled: true, labels: {release: prometheus}}
  dashboards: {enabled: true, labels: {grafana_dashboard: "1", team: serving}}
  prometheusRule: {enabled: true, labels: {release: prometheus}}
""" % ("0" * 64)


@pytest.fixture(scope="module")
def everything(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of values that turns on all there is."""
    file = tmp_path_factory.mktemp("values") / "everything.yaml"
    file.write_text(EVERYTHING)
    return file


@pytest.fixture(scope="module")
def default(helm: Helm) -> list[Object]:
    return helm.template()


@pytest.fixture(scope="module")
def full(helm: Helm, everything: Path) -> list[Object]:
    return helm.template("--values", str(everything))


def test_helm_finds_nothing_to_complain_of(helm: Helm, everything: Path) -> None:
    helm.do("lint", "--strict", str(CHART))
    helm.do("lint", "--strict", str(CHART), "--values", str(everything))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.tga=v1", "at '/image': additional properties 'tga' not allowed"),
        ("operands.planner.tag=v1", "additional properties 'planner' not allowed"),
        ("resources.request.cpu=1", "additional properties 'request' not allowed"),
        ("monitoring.podMonitor.enable=true", "additional properties 'enable' not allowed"),
        ("monitoring.dashboards.label=a", "additional properties 'label' not allowed"),
        ("tolerations[0].keys=a", "additional properties 'keys' not allowed"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy'"),
        ("image.digest=sha256:12", "at '/image/digest'"),
        ("image.registry=https://example.com", "at '/image/registry'"),
        ("watchNamespaces={a,a}", "at '/watchNamespaces': items at 0 and 1 are equal"),
        ("watchNamespaces={A}", "at '/watchNamespaces/0'"),
        ("resources.limits.memory=1GB", "at '/resources/limits/memory'"),
        ("crds.install=yes", "at '/crds/install': got string, want boolean"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(helm: Helm, value: str, said: str) -> None:
    done = helm.run("template", "splitwise", str(CHART), "--set", value)
    assert done.returncode != 0
    assert said in done.stderr


def test_chart_operator_and_project_are_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert chart["version"] == chart["appVersion"] == project


def test_every_value_has_a_comment_and_a_schema() -> None:
    text = (CHART / "values.yaml").read_text("utf-8")
    commented = dict(generate.comments(text))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert sorted(commented) == sorted(leaves(yaml.safe_load(text), schema, schema))


def leaves(values: Any, schema: Any, root: Any, path: str = "") -> list[str]:
    """Paths of the values that have no values of the chart below them."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    has_any_keys = isinstance(schema.get("additionalProperties"), dict)
    if path == "resources" or has_any_keys or not isinstance(values, dict) or not values:
        assert schema
        return [path]
    assert schema["additionalProperties"] is False
    return [
        leaf
        for name, value in values.items()
        for leaf in leaves(value, schema["properties"][name], root, f"{path}.{name}".lstrip("."))
    ]


def test_the_charts_crds_are_the_projects(default: list[Object]) -> None:
    assert {
        file.name: file.read_text("utf-8") for file in generate.COPIES.iterdir()
    } == generate.crd_copies(), "run `make generate`"
    ours = [
        yaml.safe_load(file.read_text("utf-8")) for file in sorted(generate.CRDS.glob("*.yaml"))
    ]
    rendered = of_kind(default, "CustomResourceDefinition")
    assert [item["spec"] for item in rendered] == [item["spec"] for item in ours]
    for item in rendered:
        assert item["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_kustomize_base_is_what_the_chart_installs(
    default: list[Object], kube_programs: Path
) -> None:
    command = [str(kube_programs / "kubectl"), "kustomize", str(generate.BASE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    base = {key(item): item for item in yaml.safe_load_all(done.stdout)}
    namespace = base.pop(("Namespace", "", NAMESPACE))
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    assert base == {key(item): generate.without_marks(item) for item in default}


def test_the_generated_files_are_of_this_chart(helm: Helm) -> None:
    for name, text in generate.base(helm.program).items():
        assert (generate.BASE / name).read_text("utf-8") == text, "run `make generate`"
    monitors = (generate.MONITORING / "monitors.yaml").read_text("utf-8")
    assert generate.monitors(helm.program) == monitors, "run `make generate`"
    document = generate.INSTALL.read_text("utf-8")
    assert generate.with_values(document) == document, "run `make generate`"


def key(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def test_images_have_the_registry_and_tag_of_all_unless_they_say_otherwise(
    default: list[Object], full: list[Object]
) -> None:
    assert container(default)["image"] == "splitwise-operator:0.1.0"
    assert container(full)["image"] == "registry.example.com/team/splitwise-operator:v9"
    assert [text for text in container(full)["args"] if "-image=" in text] == [
        "--worker-image=registry.example.com/team/splitwise-worker:v8",
        "--sidecar-image=registry.example.com/team/splitwise-sidecar:v9",
        f"--router-image=registry.example.com/team/splitwise-router@sha256:{'0' * 64}",
    ]


def test_an_operator_of_some_namespaces_has_rights_in_these_alone(
    default: list[Object], full: list[Object]
) -> None:
    assert [text for text in container(full)["args"] if text.startswith("--namespace=")] == [
        "--namespace=team-a",
        "--namespace=team-b",
    ]
    assert {item["metadata"]["name"] for item in of_kind(full, "ClusterRole")} == {
        f"splitwise-{role}" for role in ("view", "edit", "admin")
    }
    assert not of_kind(full, "ClusterRoleBinding")
    roles = {key(item)[1]: item for item in of_kind(full, "Role") if "-lease" not in key(item)[2]}
    assert roles.keys() == {"team-a", "team-b"}
    (everywhere,) = (
        item
        for item in of_kind(default, "ClusterRole")
        if item["metadata"]["name"] == "splitwise-operator"
    )
    assert all(item["rules"] == everywhere["rules"] for item in roles.values())


def test_without_user_roles_and_crds_a_namespaced_release_is_namespaced(
    helm: Helm, everything: Path
) -> None:
    values = ["--values", str(everything), "--set", "userRoles=false,crds.install=false"]
    for item in helm.template(*values):
        assert "namespace" in item["metadata"], item["kind"]


def test_the_lease_of_leadership_is_the_operators_own(default: list[Object]) -> None:
    (lease,) = (text for text in container(default)["args"] if text.startswith("--lease="))
    namespace, name = lease.removeprefix("--lease=").split("/")
    (role,) = of_kind(default, "Role")
    assert role["metadata"]["namespace"] == namespace == NAMESPACE
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, [name]]


def test_several_operators_are_not_all_evicted_at_once(
    default: list[Object], full: list[Object]
) -> None:
    assert not of_kind(default, "PodDisruptionBudget")
    (budget,) = of_kind(full, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == operator(full)["spec"]["selector"]


def test_placement_goes_to_the_pods(full: list[Object]) -> None:
    pod = operator(full)["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["tolerations"][0]["key"] == "control"
    assert pod["affinity"] == {"podAntiAffinity": {}}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"] == operator(full)["spec"]["selector"]


def test_monitors_are_there_when_asked_for_with_the_labels_that_select_them(
    default: list[Object], full: list[Object]
) -> None:
    assert not of_kind(default, "ServiceMonitor") + of_kind(default, "PodMonitor")
    (service,) = of_kind(full, "ServiceMonitor")
    (pods,) = of_kind(full, "PodMonitor")
    for monitor in (service, pods):
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
    labels = of_kind(full, "Service")[0]["metadata"]["labels"]
    assert service["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pods["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    ports = [endpoint["port"] for endpoint in pods["spec"]["podMetricsEndpoints"]]
    assert ports == ["status", "kv-status", "http"]


def test_a_pods_series_say_of_which_cluster_they_are_and_an_operators_keep_what_they_say(
    full: list[Object],
) -> None:
    (service,) = of_kind(full, "ServiceMonitor")
    (pods,) = of_kind(full, "PodMonitor")
    assert [endpoint["honorLabels"] for endpoint in service["spec"]["endpoints"]] == [True]
    meta = CLUSTER_LABEL.replace(".", "_").replace("/", "_")
    relabelling = {
        "sourceLabels": [f"__meta_kubernetes_pod_label_{meta}"],
        "targetLabel": "cluster",
    }
    for endpoint in pods["spec"]["podMetricsEndpoints"]:
        assert endpoint["relabelings"] == [relabelling]


def test_dashboards_are_there_when_asked_for_with_the_label_that_a_grafana_selects(
    default: list[Object], full: list[Object]
) -> None:
    assert not of_kind(default, "ConfigMap")
    found = {}
    for item in of_kind(full, "ConfigMap"):
        labels = item["metadata"]["labels"]
        assert {"grafana_dashboard": "1", "team": "serving"}.items() <= labels.items()
        assert item["metadata"]["annotations"] == {"grafana_folder": "Splitwise"}
        found |= {name: f"{text}\n" for name, text in item["data"].items()}
    assert found == dashboards.dashboards()


def test_kustomize_makes_the_same_dashboards_and_monitors(
    full: list[Object], kube_programs: Path
) -> None:
    command = [str(kube_programs / "kubectl"), "kustomize", str(generate.MONITORING)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    made = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert {item["metadata"]["namespace"] for item in made} == {NAMESPACE}
    texts = {}
    for item in of_kind(made, "ConfigMap"):
        assert item["metadata"]["labels"] == dashboards.SIDECAR_LABEL
        texts |= item["data"]
    assert texts == dashboards.dashboards()
    for kind in ("ServiceMonitor", "PodMonitor"):
        (one,), (other,) = of_kind(made, kind), of_kind(full, kind)
        assert one["spec"].keys() == other["spec"].keys()


def test_the_rules_are_those_that_prometheus_was_tested_with(
    default: list[Object], full: list[Object]
) -> None:
    assert not of_kind(default, "PrometheusRule")
    (made,) = of_kind(full, "PrometheusRule")
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["spec"] == yaml.safe_load(SOURCE.read_text("utf-8"))


def test_a_release_of_another_name_has_other_names(helm: Helm) -> None:
    text = helm.do("template", "blue", str(CHART), "--namespace", "blue")
    names = {key(item)[2] for item in yaml.safe_load_all(text) if item}
    assert {name for name in names if "splitwise.dev" not in name} == {
        f"blue-splitwise-{part}" for part in ("operator", "operator-lease", "view", "edit", "admin")
    }
