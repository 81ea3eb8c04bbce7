"""A SplitwiseCluster file: what is taken, and how each mistake is named."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitwise_core.errors import UserError
from splitwise_core.manifest import load_cluster, parse_cluster
from splitwise_core.quantity import quantity
from tests.support.manifests import GOOD, changed

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_valid(example: Path) -> None:
    assert load_cluster(example).spec.pools


def test_what_is_left_out_has_a_default() -> None:
    spec = parse_cluster(GOOD).spec
    assert spec.router.port == 8000
    assert spec.pools[0].seed == 1
    assert spec.scheduling.prompt_batch_tokens == 2048


def test_a_cluster_that_sleeps_begins_awake() -> None:
    law = {"by": "Load", "minReplicas": 0, "maxReplicas": 2}
    pools = [{"name": role, "role": role, "autoscaling": law} for role in ("prompt", "token")]
    spec = parse_cluster(changed("spec.pools", pools)).spec
    assert spec.sleeps
    assert {pool.seed for pool in spec.pools} == {1}
    assert not parse_cluster(GOOD).spec.sleeps


def test_a_relative_model_path_is_meant_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(changed("spec.model.path", "models/tiny")))
    assert load_cluster(file).spec.model.path == str(tmp_path / "models" / "tiny")


@pytest.mark.parametrize(
    ("path", "value", "named", "hint"),
    [
        pytest.param("spec.modle", {}, "spec.modle", "'model'", id="misspelt field"),
        pytest.param(
            "spec.pools.0.replica", 2, "spec.pools[0].replica", "'replicas'", id="in a list"
        ),
        pytest.param("spec.model.name", ..., "spec.model.name", "is required", id="missing"),
        pytest.param(
            "spec.pools.0.replicas", "2", "spec.pools[0].replicas", "whole number", id="text"
        ),
        pytest.param(
            "spec.pools.0.replicas", True, "spec.pools[0].replicas", "whole number", id="bool"
        ),
        pytest.param("spec.pools.0.replicas", 0, "spec.pools[0].replicas", "1", id="too small"),
        pytest.param(
            "spec.pools.0.autoscaling",
            {"by": "Load", "minReplicas": 0, "maxReplicas": 2},
            "pools",
            "zero is of all pools together",
            id="one phase at zero",
        ),
        pytest.param(
            "spec.pools.0.autoscaling",
            {"by": "External", "minReplicas": 0, "maxReplicas": 2},
            "spec.pools[0].autoscaling",
            "at least 1",
            id="somebody else's zero",
        ),
        pytest.param("spec.router", {"port": 70000}, "spec.router.port", "65535", id="too large"),
        pytest.param("spec.pools.0.role", "promt", "spec.pools[0].role", "'prompt'", id="role"),
        pytest.param("spec.pools", [], "spec.pools", "at least 1", id="no pools"),
        pytest.param("spec.pools", {}, "spec.pools", "list", id="a mapping for a list"),
        pytest.param("spec.pools.1.name", "prompt", "pools", "used twice", id="same name twice"),
        pytest.param("spec.pools.1.role", "prompt", "pools", "token or mixed", id="no token pool"),
        pytest.param("spec.pools.0.role", "token", "pools", "prompt or mixed", id="no prompt pool"),
        pytest.param("spec.pools.0.name", "router", "pools", "router", id="reserved name"),
        pytest.param(
            "spec.pools.0.name", "Prompt!", "spec.pools[0].name", "Lower-case letters", id="name"
        ),
        pytest.param(
            "spec.pools.0.kvMemory", "1 GB", "spec.pools[0].kvMemory", "1Gi", id="quantity"
        ),
        pytest.param("spec.pools.0.kvMemory", "1k", "spec.pools[0].kvMemory", "1Mi", id="tiny KV"),
        pytest.param("kind", "Deployment", "kind", "'SplitwiseCluster'", id="another kind"),
        pytest.param(
            "apiVersion", "v1", "apiVersion", "'splitwise.dev/v1alpha1'", id="another version"
        ),
        pytest.param("metadata.name", ..., "metadata.name", "is required", id="no name"),
        pytest.param("metadata.name", 12, "metadata.name", "in quotes", id="a number as a name"),
        pytest.param("metadata.name", "x" * 41, "metadata.name", "40", id="a long name"),
        pytest.param(
            "metadata.labels", {"a": True}, "metadata.labels.a", "in quotes", id="a label of YAML"
        ),
        pytest.param(
            "metadata.labels", {"a b": "c"}, "metadata.labels.a b", "pattern", id="a label's key"
        ),
        pytest.param(
            "metadata.labels",
            {"splitwise.dev/pool": "x"},
            "metadata.labels",
            "leave it out",
            id="one of our own labels",
        ),
        pytest.param("spec.pools.0.kv_memory", "1Gi", "kv_memory", "'kvMemory'", id="snake case"),
        pytest.param("spec.pools.0.kvMemory", "1Gi\n", "kvMemory", "1Gi", id="a line end"),
        pytest.param(
            "spec.pools.0.kvMemory", "9" * 400, "spec.pools[0].kvMemory", "1Gi", id="400 digits"
        ),
        pytest.param("spec.pools.0.kvMemory", 2**60, "kvMemory", "16Ti", id="more than there is"),
        pytest.param(
            "spec.pools.0.kvMemory", float("nan"), "kvMemory", "quantity", id="not a number"
        ),
        pytest.param("spec.pools.0.replicas", 10**30, "replicas", "", id="a huge number"),
        pytest.param("spec.pools.0.replicas", 1.5, "replicas", "whole number", id="a fraction"),
        pytest.param("spec.pools.0.resources", {"cpu": "0"}, "cpu", "10m", id="no CPU at all"),
        pytest.param(
            "spec.pools.0.nodeSelector",
            {"zone": 1},
            "nodeSelector.zone",
            "in quotes",
            id="a number as a node label",
        ),
        pytest.param("spec.model.path", "~/m", "spec.model.path", "pattern", id="home directory"),
        pytest.param("spec.model.path", "a\0b", "spec.model.path", "pattern", id="a null byte"),
        pytest.param("spec.model.name", "two words", "spec.model.name", "pattern", id="spaces"),
        pytest.param(
            "spec.monitoring",
            {"traces": {"endpoint": "collector:4317"}},
            "spec.monitoring.traces.endpoint",
            "pattern",
            id="a collector without a scheme",
        ),
        pytest.param(
            "spec.monitoring",
            {"traces": {"endpoint": "http://c:4317", "sampleRatio": 10}},
            "spec.monitoring.traces.sampleRatio",
            "1",
            id="ten percent as 10",
        ),
        pytest.param("spec", None, "spec", "", id="empty spec"),
        pytest.param(
            "spec.transfer.tls.mode", False, "spec.transfer.tls.mode", "'Plaintext'", id="tls: off"
        ),
        pytest.param(
            "spec.transfer.tls.mode",
            "Secret",
            "spec.transfer.tls.secretName",
            "say which one",
            id="no Secret in mode Secret",
        ),
        pytest.param(
            "spec.transfer.tls.secretName",
            "mine",
            "spec.transfer.tls.secretName",
            "write mode: Secret",
            id="a Secret in mode Auto",
        ),
    ],
)
def test_a_mistake_is_named_by_its_path(path: str, value: object, named: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_cluster(changed(path, value))
    assert caught.value.code == "invalid-spec"
    assert named in str(caught.value)
    assert hint in str(caught.value)


def test_all_mistakes_are_listed_at_once() -> None:
    document = changed("spec.pools.0.role", "x")
    document["spec"]["oops"] = 1
    with pytest.raises(UserError) as caught:
        parse_cluster(document)
    assert "spec.pools[0].role" in caught.value.wrong
    assert "spec.oops" in caught.value.wrong


@pytest.mark.parametrize("document", [None, [], "text", 7], ids=["nothing", "list", "text", "int"])
def test_a_document_that_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(UserError):
        parse_cluster(document)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        pytest.param(b"a: [", "is not YAML", id="not YAML"),
        pytest.param(b"\xff\xfe\x00", "", id="not text"),
        pytest.param(b"", "0 objects", id="empty"),
        pytest.param(b"a: 1\n---\nb: 2\n", "2 objects", id="two objects"),
        pytest.param(b"a: 1\nb: 2\na: 3\n", "'a' stands twice", id="a key twice"),
        pytest.param(b"a: {b: 1, 'b': 2}\n", "line 1, column 11", id="a key twice, deeper"),
        pytest.param(b"a: 2024-13-45\n", "in quotes", id="a date that is none"),
        pytest.param(b"[" * 500, "nested too deeply", id="deep nesting"),
        pytest.param(b"a: \x01\n", "is not YAML", id="a control character"),
        pytest.param(b"a: !!python/object:os.system {}\n", "is not YAML", id="a Python object"),
        pytest.param(b"a: *b\n", "is not YAML", id="an alias of nothing"),
        pytest.param(b"&a [*a]\n", "should be a mapping", id="an alias of itself"),
        pytest.param(b"just text\n", "should be a mapping", id="text"),
    ],
)
def test_a_file_that_holds_no_cluster_is_refused(tmp_path: Path, content: bytes, hint: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_cluster(file)
    assert hint in str(caught.value)
    assert str(file) in str(caught.value)


def test_anchors_and_merges_may_override_what_they_bring_in(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "apiVersion: splitwise.dev/v1alpha1\n"
        "kind: SplitwiseCluster\n"
        "metadata: {name: demo}\n"
        "spec:\n"
        "  model: {name: tiny, path: /models/tiny}\n"
        "  pools:\n"
        "  - &base {name: prompt, role: prompt, kvMemory: 2Gi}\n"
        "  - {<<: *base, name: token, role: token}\n"
    )
    token = load_cluster(file).spec.pools[1]
    assert (token.name, token.role, token.kv_memory) == ("token", "token", "2Gi")


def test_names_of_a_cluster_and_a_pool_must_fit_together() -> None:
    document = changed("metadata.name", "c" * 40)
    document["spec"]["pools"][1]["name"] = "p" * 30
    with pytest.raises(UserError, match=r"(?s)metadata.name: .*63 characters.*shorten"):
        parse_cluster(document)


@pytest.mark.parametrize("path", ["missing.yaml", "."], ids=["missing", "a directory"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_cluster(tmp_path / path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("500m", 0.5), ("1Gi", 2**30), ("1.5k", 1500)],
)
def test_quantities_are_those_of_kubernetes(text: str, value: float) -> None:
    assert quantity(text) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=10,
)
PLACES = ["apiVersion", "metadata", "metadata.name", "metadata.labels", "spec", "spec.model"]
PLACES += ["spec.model.path", "spec.pools", "spec.pools.0", "spec.pools.0.kvMemory"]
PLACES += ["spec.pools.0.resources", "spec.pools.1.gpu", "spec.router", "spec.more", "more"]


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_stands_in_a_place_is_taken_or_explained(place: str, value: object) -> None:
    explained = "nothing to explain"
    try:
        parse_cluster(changed(place, value))
    except UserError as error:
        explained = error.fix
    assert 0 < len(explained) < 5000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@,?\n \t01.~<", max_size=40) | st.text(max_size=20))
def test_whatever_a_file_holds_is_explained(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text, "utf-8", errors="surrogatepass")
    with pytest.raises(UserError):
        load_cluster(file)
