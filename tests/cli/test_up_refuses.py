"""`splitwise up` on everything that cannot work: one clear error, and nothing left behind."""

import os
import socket
from pathlib import Path

import pytest

from splitwise_core.rdma import has_device
from tests.cli.support import GOOD, Desk, changed
from tests.support.ports import free_port

YAML = [
    pytest.param(b"a: [", ["is not YAML", "line"], id="not YAML"),
    pytest.param(b"\xff\xfe\x00", ["UTF-8"], id="not text"),
    pytest.param(b"", ["0 objects"], id="an empty file"),
    pytest.param(b"- 1\n", ["should be a mapping"], id="a list"),
    pytest.param(b"a: 1\n---\nb: 2\n", ["2 objects", "exactly one"], id="two documents"),
    pytest.param(b"kind: a\nkind: b\n", ["'kind' stands twice", "line 2"], id="a key twice"),
    pytest.param(b"[" * 500, ["nested too deeply"], id="deep nesting"),
    pytest.param(
        changed("spec.pools.0.replica", 2), ["spec.pools[0].replica", "'replicas'"], id="near name"
    ),
    pytest.param(
        changed("spec.pools.0.replicas", "2"), ["spec.pools[0].replicas", "number"], id="text"
    ),
    pytest.param(
        changed("spec.router", {"port": 0}), ["spec.router.port", "greater"], id="out of range"
    ),
    pytest.param(changed("spec.model.name", ...), ["add spec.model.name"], id="missing field"),
    pytest.param(
        changed("spec.pools.1.name", "prompt"), ["spec.pools", "used twice"], id="pool twice"
    ),
    pytest.param(
        changed("spec.pools", [{"name": "p", "role": "prompt"}]),
        ["spec.pools", "role token or mixed"],
        id="missing role",
    ),
    pytest.param(changed("apiVersion", "v1"), ["apiVersion", "splitwise.dev/v1"], id="version"),
    pytest.param(changed("kind", "Deployment"), ["kind", "SplitwiseCluster"], id="kind"),
]


@pytest.mark.parametrize(("document", "named"), YAML)
def test_a_wrong_file(desk: Desk, document: object, named: list[str]) -> None:
    desk.write(document)
    done = desk.says(*desk.up())
    assert (done.returncode, done.stdout) == (2, "")
    assert str(desk.file) in done.stderr
    assert "fix:" in done.stderr
    for words in named:
        assert words in done.stderr
    assert not desk.state.exists()


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
def test_a_wrong_file_as_a_user_meets_it(desk: Desk, detach: list[str]) -> None:
    desk.write(changed("spec.pools.0.role", "promt"))
    assert "spec.pools[0].role: 'promt' is not one of" in desk.refused(*detach)


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
def test_a_missing_model(desk: Desk, detach: list[str]) -> None:
    said = desk.refused(*detach)
    assert f"spec.model.path ({desk.model})" in said
    assert "splitwise model" in said


@pytest.mark.parametrize("lacking", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_that_lacks_a_file(desk: Desk, lacking: str) -> None:
    desk.write_model()
    (desk.model / lacking).unlink()
    done = desk.says(*desk.up("--detach"))
    assert done.returncode == 2
    assert lacking.removeprefix("model") in done.stderr
    desk.is_empty()


@pytest.mark.parametrize("content", ["", "{", "[]", "7"], ids=["empty", "cut", "list", "number"])
def test_a_config_that_is_none(desk: Desk, content: str) -> None:
    desk.write_model()
    (desk.model / "config.json").write_text(content)
    done = desk.says(*desk.up("--detach"))
    assert done.returncode == 2
    assert str(desk.model / "config.json") in done.stderr
    desk.is_empty()


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
def test_a_taken_port(desk: Desk, detach: list[str]) -> None:
    desk.write_model()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = desk.refused("--port", str(port), *detach)
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize("port", ["0", "-1", "65536", "http"])
def test_a_port_that_is_none(desk: Desk, port: str) -> None:
    done = desk.says(*desk.up("--port", port))
    assert done.returncode == 2
    assert "--port" in done.stderr


@pytest.mark.parametrize("wait", ["0", "-5", "nan", "soon"])
def test_a_time_that_is_none(desk: Desk, wait: str) -> None:
    done = desk.says(*desk.up("--wait", wait))
    assert done.returncode == 2
    assert "--wait" in done.stderr


@pytest.mark.parametrize("file", ["missing.yaml", "."], ids=["missing", "a directory"])
def test_a_file_that_cannot_be_read(desk: Desk, file: str) -> None:
    done = desk.says("up", "-f", file, "--state-dir", str(desk.state))
    assert done.returncode == 2
    assert f"{file}: cannot be read" in done.stderr


def test_no_file_at_all(desk: Desk) -> None:
    done = desk.says("up")
    assert done.returncode == 2
    assert "--file" in done.stderr


def test_a_state_directory_that_is_a_file(desk: Desk) -> None:
    desk.write_model()
    desk.state.write_text("")
    done = desk.says(*desk.up("--detach"))
    assert done.returncode == 2
    assert str(desk.state) in done.stderr
    assert "--state-dir" in done.stderr


def test_a_temporary_directory_too_long_for_sockets(desk: Desk) -> None:
    desk.write_model()
    desk.temporary = desk.directory / ("t" * 90)
    desk.temporary.mkdir()
    said = desk.refused("--port", str(free_port()))
    assert "TMPDIR" in said
    assert "shorter" in said


def test_certificates_of_kubernetes(desk: Desk) -> None:
    desk.write_model()
    tls = {"mode": "Secret", "secretName": "mine"}
    desk.write(changed("spec.transfer", {"tls": tls}))
    said = desk.refused()
    assert "spec.transfer.tls.mode: there is no Secret mine on this machine" in said
    assert "write mode: Auto" in said


@pytest.mark.parametrize(
    "asked", [{"transport": "RDMA"}, {"requireRdma": True}], ids=["RDMA", "requireRdma"]
)
@pytest.mark.skipif(has_device(), reason="this machine has an RDMA device")
def test_rdma_that_is_not_here(desk: Desk, asked: dict[str, object]) -> None:
    """As on Kubernetes, nothing else takes its place in silence; here it is said at once."""
    desk.write_model()
    needed = {"rdma": {"resource": "rdma/hca"}, "tls": {"mode": "Plaintext"}}
    desk.write(changed("spec.transfer", asked | needed))
    said = desk.refused()
    assert f"spec.transfer.{next(iter(asked))}: there is no RDMA device" in said
    assert "write transport: Auto" in said


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "amd.com/gpu"])
def test_gpus_that_are_not_here(desk: Desk, monkeypatch: pytest.MonkeyPatch, resource: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    asked = {"name": "x", "role": "mixed", "replicas": 3, "gpu": {"resource": resource}}
    desk.write(changed("spec.pools", [GOOD["spec"]["pools"][0], asked]))
    done = desk.says(*desk.up("--detach"))
    assert done.returncode == 2
    assert f"spec.pools[1].gpu: the workers up to this pool take 3 of {resource}" in done.stderr
    assert "2 of nvidia.com/gpu" in done.stderr
    assert "leave gpu out" in done.stderr


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
def test_truncated_weights(desk: Desk, detach: list[str]) -> None:
    desk.write_model()
    cut(desk.model / "model.safetensors")
    port = free_port()
    said = desk.refused("--port", str(port), *detach, within_s=120)
    assert "model.safetensors" in said
    assert "truncated" in said
    with socket.create_server(("127.0.0.1", port)):
        pass  # nothing listens there any more


def test_a_damaged_tokenizer(desk: Desk) -> None:
    desk.write_model()
    cut(desk.model / "tokenizer.json")
    said = desk.refused("--port", str(free_port()), within_s=120)
    assert str(desk.model / "tokenizer.json") in said


def test_the_files_above_differ_by_their_mistake_alone(desk: Desk) -> None:
    desk.write(GOOD)
    assert desk.says("render", "-f", str(desk.file)).returncode == 0
