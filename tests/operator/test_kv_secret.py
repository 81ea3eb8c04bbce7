"""What is in a cluster's Secret, and which pod gets which part of it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from splitwise_operator import kv_secret
from splitwise_operator.kv_content import kept, wrong_with
from splitwise_operator.kv_secret import FILES, files_of, secret
from splitwise_operator.render import render
from splitwise_sidecar import config as sidecar_config
from tests.operator.rendered import Object, arguments, cluster, containers, pod
from tests.support.certificates import NAME, bundle, expired

NOW = datetime.now(UTC)
CERTIFICATES = {"ca.crt", "tls.crt", "tls.key"}
THEIRS = {"tls": {"mode": "Secret", "secretName": "theirs"}}
PLAINTEXT = {"tls": {"mode": "Plaintext"}}


def given(spec: Object) -> dict[str, set[str]]:
    """The files that a pod is given, by the Secret that they are from."""
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "kv"]
    if "secret" in volume:
        own = volume["secret"]
        return {own["secretName"]: {item["key"] for item in own["items"]}}
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    return {own["name"]: {item["key"] for item in own["items"]} for own in sources}


@pytest.mark.parametrize(
    ("transfer", "files"),
    [
        pytest.param({}, {"demo-kv": {*CERTIFICATES, "capability.key"}}, id="by default"),
        pytest.param(
            THEIRS, {"theirs": CERTIFICATES, "demo-kv": {"capability.key"}}, id="the user's"
        ),
        pytest.param(PLAINTEXT, {"demo-kv": {"capability.key"}}, id="none"),
    ],
)
def test_workers_get_certificates_and_no_pod_gets_the_authoritys_key(
    transfer: Object, files: dict[str, set[str]]
) -> None:
    objects = render(cluster(transfer=transfer))
    for name in ("demo-prompt", "demo-token"):
        assert given(pod(objects, name)) == files
    assert given(pod(objects, "demo-router")) == {"demo-kv": {"capability.key"}}


def test_only_the_sidecar_sees_what_its_pod_is_given() -> None:
    sidecar, worker = containers(pod(render(cluster()), "demo-prompt"))
    (mount,) = [m for m in sidecar["volumeMounts"] if m["name"] == "kv"]
    assert mount["readOnly"] is True
    assert not [m for m in worker["volumeMounts"] if m["name"] == "kv"]


@pytest.mark.parametrize(
    ("transfer", "name"),
    [
        pytest.param({}, NAME, id="by default"),
        pytest.param(THEIRS, NAME, id="the user's certificate, for the same name"),
        pytest.param({"tls": THEIRS["tls"] | {"serverName": "a.b"}}, "a.b", id="for another name"),
        pytest.param(PLAINTEXT, None, id="plaintext"),
    ],
)
def test_a_sidecar_knows_the_name_of_its_peers(transfer: Object, name: str | None) -> None:
    sidecar = containers(pod(render(cluster(transfer=transfer)), "demo-prompt"))[0]
    parsed = sidecar_config.parse(arguments(sidecar))
    assert (parsed.tls_name or None) == name
    assert (parsed.tls_dir is not None) == (name is not None)


# ---- what is in it ----


def test_a_new_cluster_gets_all_of_it_and_then_it_stays() -> None:
    made = kept({}, cluster(), NOW)
    assert set(made) == set(FILES)
    assert len(bytes.fromhex(made["capability.key"].decode())) == 32
    assert kept(made, cluster(), NOW) == made
    assert files_of(secret(cluster(), made)) == made


def test_keys_that_were_added_by_hand_stay_and_a_damaged_one_is_made_anew() -> None:
    made = kept({}, cluster(), NOW)
    two = made | {"capability.key": b"ab" * 32 + b"\n" + made["capability.key"]}
    assert kept(two, cluster(), NOW) == two
    for damaged in (b"", b"short", b"\xff" * 64, b"ab\n"):
        healed = kept(made | {"capability.key": damaged}, cluster(), NOW)
        assert len(bytes.fromhex(healed["capability.key"].decode())) == 32
        assert healed["tls.key"] == made["tls.key"]


@pytest.mark.parametrize("transfer", [THEIRS, PLAINTEXT], ids=["the user's", "plaintext"])
def test_what_nobody_uses_is_not_kept(transfer: Object) -> None:
    assert set(kept(kept({}, cluster(), NOW), cluster(transfer=transfer), NOW)) == {
        "capability.key"
    }


GOOD = dict(bundle())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(GOOD, "", id="nothing"),
        pytest.param(None, "no such Secret", id="it is not there"),
        pytest.param({"tls.crt": b""}, "lacks ca.crt, tls.key", id="files are missing"),
        pytest.param(expired(), "expired", id="it has expired"),
        pytest.param(bundle("other"), "Hostname mismatch", id="another name"),
        pytest.param(GOOD | {"tls.key": bundle()["tls.key"]}, "no pair", id="another key"),
        pytest.param(GOOD | {"ca.crt": bundle()["ca.crt"]}, "issuer", id="another authority"),
    ],
)
def test_what_is_wrong_with_a_users_secret_is_said(found: Any, said: str) -> None:
    wrong = wrong_with(found, cluster(transfer=THEIRS))
    assert said in wrong
    assert bool(wrong) == bool(said)


def test_the_name_is_the_clusters_in_its_namespace() -> None:
    asked = cluster(meta={"namespace": "team-a"})
    assert kv_secret.server_name(asked) == "demo.team-a.kv.splitwise.dev"
