"""A release on a real API server: what it brings, what it may do, what an uninstall leaves."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from splitwise_core.manifest import parse_cluster
from splitwise_operator.render import render
from tests.helm.release import CHART, NAMESPACE, SAMPLES, Helm, Object, of_kind, operator
from tests.support.control_plane import ControlPlane

pytestmark = pytest.mark.kubernetes

RELEASE: Final = ("splitwise", str(CHART), "--namespace", NAMESPACE)
KINDS: Final = (
    "deployments,services,serviceaccounts,poddisruptionbudgets,networkpolicies,roles,rolebindings"
)


@pytest.fixture(scope="module")
def installed(installer: Helm, cluster: ControlPlane) -> Iterator[str]:
    """What `helm install` said; gone afterwards, but for the CRDs."""
    yield installer.do("install", *RELEASE, "--create-namespace")
    installer.run("uninstall", "splitwise", "--namespace", NAMESPACE)


def test_the_notes_tell_the_next_step_in_the_right_namespace(installed: str) -> None:
    assert f"kubectl --namespace {NAMESPACE} rollout status deployment/splitwise-op" in installed
    assert "kubectl --namespace default apply --filename" in installed


def test_everything_is_created(installed: str, cluster: ControlPlane, helm: Helm) -> None:
    for item in helm.template():
        where = item["metadata"].get("namespace", NAMESPACE)
        name = item["metadata"]["name"]
        found = cluster.get("--namespace", where, item["kind"], name)
        assert found["metadata"]["labels"].items() >= item["metadata"]["labels"].items()


VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete")
RIGHTS: Final = {
    ("splitwise.dev", "splitwiseclusters", ""): "get list watch",
    ("splitwise.dev", "splitwiseclusters", "status"): "patch",
    ("splitwise.dev", "splitwisepools", ""): "get list watch create patch delete",
    ("splitwise.dev", "splitwisepools", "status"): "patch",
    ("apps", "deployments", ""): "get list watch create patch delete",
    ("", "services", ""): "get list watch create patch delete",
    ("", "configmaps", ""): "get list watch create patch",
    ("", "serviceaccounts", ""): "get list watch create patch",
    ("", "pods", ""): "list watch patch",
    ("", "events", ""): "create",
    ("policy", "poddisruptionbudgets", ""): "get list watch create patch delete",
    ("networking.k8s.io", "networkpolicies", ""): "get list watch create patch delete",
    ("rbac.authorization.k8s.io", "roles", ""): "get list watch create patch",
    ("rbac.authorization.k8s.io", "rolebindings", ""): "get list watch create patch",
    ("rbac.authorization.k8s.io", "clusterroles", ""): "",
    ("discovery.k8s.io", "endpointslices", ""): "list watch",
    ("apiextensions.k8s.io", "customresourcedefinitions", ""): "",
    ("", "secrets", ""): "get create patch",
    ("", "nodes", ""): "",
    ("", "pods", "exec"): "",
}


def test_the_operator_may_do_what_it_needs_and_nothing_else(
    installed: str, cluster: ControlPlane
) -> None:
    asked = [
        {"group": group, "resource": resource, "subresource": part, "verb": verb}
        for group, resource, part in RIGHTS
        for verb in VERBS
    ]
    for question, may in allowed(cluster, NAMESPACE, "splitwise-operator", "default", asked):
        what = (question["group"], question["resource"], question["subresource"])
        assert may is (question["verb"] in RIGHTS[what].split()), question


def test_a_lease_of_another_name_is_not_the_operators(
    installed: str, cluster: ControlPlane
) -> None:
    lease = {"group": "coordination.k8s.io", "resource": "leases", "verb": "update"}
    asked = [lease | {"name": "splitwise-operator"}, lease | {"name": "another"}]
    answers = allowed(cluster, NAMESPACE, "splitwise-operator", NAMESPACE, asked)
    assert [may for _, may in answers] == [True, False]


def allowed(
    cluster: ControlPlane, home: str, account: str, where: str, asked: list[dict[str, str]]
) -> list[tuple[dict[str, str], bool]]:
    """Whether an account may do each of these things in a namespace."""
    user = f"system:serviceaccount:{home}:{account}"
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": question | {"namespace": where}},
        }
        for question in asked
    ]
    done = cluster.kubectl("create", "--output=yaml", "--filename=-", objects=reviews)
    assert done.returncode == 0, done.stderr
    answers = [
        item for part in yaml.safe_load_all(done.stdout) for item in part.get("items", [part])
    ]
    return [(question, item["status"]["allowed"]) for question, item in zip(asked, answers)]


def test_the_operators_pods_are_admitted_where_only_restricted_ones_are(
    installed: str, cluster: ControlPlane, helm: Helm
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    assert cluster.kubectl("label", "namespace", NAMESPACE, label).returncode == 0
    pod = pod_of(operator(helm.template()), NAMESPACE)
    done = cluster.kubectl("create", "--dry-run=server", "-f", "-", objects=[pod])
    assert done.returncode == 0, done.stderr
    pod["spec"]["containers"][0]["securityContext"].pop("capabilities")  # the level is enforced
    done = cluster.kubectl("create", "--dry-run=server", "-f", "-", objects=[pod])
    assert "violates PodSecurity" in done.stderr


def pod_of(deployment: Object, namespace: str) -> Object:
    """A pod of it."""
    template = deployment["spec"]["template"]
    metadata = template["metadata"] | {"name": "admitted", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_is_accepted_by_parser_and_api_server(
    installed: str, cluster: ControlPlane, sample: Path
) -> None:
    for document in yaml.safe_load_all(sample.read_text("utf-8")):
        if document["kind"] == "SplitwiseCluster":
            assert parse_cluster(document).metadata.name == sample.stem
    done = cluster.kubectl("apply", "--filename", str(sample))
    assert done.returncode == 0, done.stderr
    assert f"splitwisecluster.splitwise.dev/{sample.stem}" in done.stdout


def test_the_pods_of_the_restricted_sample_are_admitted_in_its_namespace(
    installed: str, cluster: ControlPlane
) -> None:
    (sample,) = (file for file in SAMPLES if file.stem == "restricted")
    assert cluster.kubectl("apply", "--filename", str(sample)).returncode == 0
    *_, document = yaml.safe_load_all(sample.read_text("utf-8"))
    objects = render(parse_cluster(document))
    accounts = of_kind(objects, "ServiceAccount")
    assert cluster.kubectl("apply", "--filename=-", objects=accounts).returncode == 0
    namespace = document["metadata"]["namespace"]
    pods = [pod_of(deployment, namespace) for deployment in of_kind(objects, "Deployment")]
    assert len(pods) == 3
    done = cluster.kubectl("create", "--dry-run=server", "--filename=-", objects=pods)
    assert done.returncode == 0, done.stderr


def test_an_uninstall_leaves_the_definitions_and_a_new_release_takes_them_over(
    installed: str, installer: Helm, cluster: ControlPlane
) -> None:
    said = installer.do("uninstall", "splitwise", "--namespace", NAMESPACE)
    assert "[CustomResourceDefinition] splitwiseclusters.splitwise.dev" in said
    left = cluster.get(KINDS, "--all-namespaces", "--selector=app.kubernetes.io/part-of=splitwise")
    assert left["items"] == []
    roles = cluster.get("clusterroles", "--selector=app.kubernetes.io/part-of=splitwise")
    assert roles["items"] == []
    assert len(cluster.get("crds")["items"]) == 2
    installer.do("install", *RELEASE)


def test_an_upgrade_upgrades_the_definitions(
    installer: Helm, cluster: ControlPlane, tmp_path: Path
) -> None:
    chart = shutil.copytree(CHART, tmp_path / "splitwise")
    (file,) = chart.glob("files/crds/splitwisepools.*")
    definition = yaml.safe_load(file.read_text("utf-8"))
    columns = definition["spec"]["versions"][0]["additionalPrinterColumns"]
    columns.append({"name": "New", "jsonPath": ".spec.pool", "type": "string"})
    file.write_text(yaml.safe_dump(definition))
    installer.do(
        "upgrade", "--install", "splitwise", str(chart), "--namespace", NAMESPACE,
        "--create-namespace",
    )  # fmt: skip
    found = cluster.get("crd", "splitwisepools.splitwise.dev")
    assert found["spec"]["versions"][0]["additionalPrinterColumns"][-1]["name"] == "New"


def test_a_second_release_in_namespaces_of_its_own(installer: Helm, cluster: ControlPlane) -> None:
    for name in ("blue", "team-blue"):
        assert cluster.kubectl("create", "namespace", name).returncode == 0
    values = "crds.install=false,userRoles=false,watchNamespaces={team-blue}"
    installer.do("install", "blue", str(CHART), "--namespace", "blue", "--set", values)
    create = [{"group": "apps", "resource": "deployments", "verb": "create"}]
    for where, may in (("team-blue", True), ("default", False), ("blue", False)):
        account = "blue-splitwise-operator"
        assert allowed(cluster, "blue", account, where, create) == [(create[0], may)]
