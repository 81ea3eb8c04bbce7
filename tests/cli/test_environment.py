"""What a container sees: variables, arguments, and the directories behind its mounts."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitwise_cli.runner.environment import cpu_millis, expand, invocation, make_volumes
from splitwise_cli.runner.plan import PodPlan

POD = PodPlan("web-0", "web", "mixed", "127.66.1.2", {"splitwise.dev/revision": "abc"}, {})


def env(*variables: dict[str, Any], **container: Any) -> dict[str, str]:
    """The variables that a container is given."""
    spec = {"command": ["x"], "env": list(variables), **container}
    return invocation(spec, POD, {}, cpu_millis=750).env


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("$(A)/$(B)", "one/two", id="names in brackets are replaced"),
        pytest.param("$(C)", "$(C)", id="an unknown name stays"),
        pytest.param("$$(A)", "$(A)", id="two dollars are one, and end the meaning of the next"),
        pytest.param("$A ${A} $", "$A ${A} $", id="a shell's forms mean nothing"),
        pytest.param("$$$$", "$$", id="four dollars are two"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert expand(text, {"A": "one", "B": "two"}) == expected


def test_a_pod_tells_its_containers_who_they_are() -> None:
    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    seen = env(
        field("NAME", "metadata.name"),
        field("IP", "status.podIP"),
        field("REVISION", "metadata.labels['splitwise.dev/revision']"),
        {"name": "BOTH", "value": "$(NAME)@$(IP)"},
        {"name": "LATER", "value": "$(AFTER)"},
        {"name": "AFTER", "value": "x"},
        {"name": "EMPTY"},
    )
    assert (seen["NAME"], seen["IP"], seen["REVISION"]) == ("web-0", "127.66.1.2", "abc")
    assert seen["BOTH"] == "web-0@127.66.1.2"
    assert seen["LATER"] == "$(AFTER)", "only what stands above is known"
    assert seen["EMPTY"] == ""


def test_a_pod_sees_the_gpus_it_was_given() -> None:
    given = replace(POD, gpus=("2", "3"))
    assert invocation({"command": ["x"]}, given, {}, 500).env["CUDA_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize(
    ("limit", "millis"),
    [("2", "2000"), ("500m", "500"), ("1.5", "1500"), ("0.29", "290"), (None, "750")],
    ids=["cores", "millis", "a fraction", "no rounding down", "without a limit its share"],
)
def test_a_container_is_told_its_cpu(limit: str | None, millis: str) -> None:
    source = {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}
    limits = {} if limit is None else {"limits": {"cpu": limit}}
    assert env({"name": "CPU", "valueFrom": source}, resources=limits)["CPU"] == millis


def test_of_this_process_a_container_sees_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    seen = env()
    assert seen["CUDA_VISIBLE_DEVICES"] == "", "a pod that asked for no GPU has none"
    assert "HF_TOKEN" not in seen
    assert seen["PATH"] == os.environ["PATH"]


def test_mounted_paths_are_the_directories_behind_them(tmp_path: Path) -> None:
    container = {
        "command": ["x", "--model=/models/model", "/models/model/config.json", "/models/modelling"],
        "args": ["$(WHERE)", "/data/models/model"],
        "env": [{"name": "WHERE", "value": "/models/model/a"}],
        "volumeMounts": [{"name": "model", "mountPath": "/models/model"}],
    }
    made = invocation(container, POD, {"model": tmp_path}, 500)
    assert made.argv[1:4] == [f"--model={tmp_path}", f"{tmp_path}/config.json", "/models/modelling"]
    assert made.argv[4:] == [f"{tmp_path}/a", "/data/models/model"]
    assert made.env["WHERE"] == f"{tmp_path}/a"
    assert made.local(["cat", "/models/model/x"])[1] == f"{tmp_path}/x"


def test_what_is_behind_a_mount_is_no_mount_itself(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]
    container = {"command": ["x", "/a/file", "/b"], "volumeMounts": mounts}
    made = invocation(container, POD, {"a": Path("/b/a"), "b": tmp_path}, 500)
    assert made.argv[1:] == ["/b/a/file", str(tmp_path)]


def test_commands_come_from_the_environment_that_runs_the_runner() -> None:
    made = invocation({"command": ["splitwise-router"]}, POD, {}, 500)
    assert made.argv == [str(Path(sys.executable).parent / "splitwise-router")]
    assert invocation({"command": ["no-such-thing"]}, POD, {}, 500).argv == ["no-such-thing"]


def test_volumes(tmp_path: Path) -> None:
    volumes = [
        {"name": "model", "hostPath": {"path": "/srv/model"}},
        {"name": "run", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": "endpoints"}},
    ]
    made = make_volumes(volumes, tmp_path, {"endpoints": {"endpoints.json": "{}"}}, {})
    assert made["model"] == Path("/srv/model")
    assert list(made["run"].iterdir()) == []
    assert made["run"].stat().st_mode & 0o777 == 0o700
    assert (made["config"] / "endpoints.json").read_text() == "{}"


def test_workers_share_the_cores_and_none_gets_less_than_half_of_one() -> None:
    cores = len(os.sched_getaffinity(0))
    assert cpu_millis(1) == cores * 1000
    assert cpu_millis(10_000) == 500


def test_a_secret_gives_the_files_that_are_asked_for_as_they_are_at_each_moment(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("tls.key", "ca.key"):
        (kept / name).write_text("old")
    volumes = [
        {
            "name": "kv",
            "secret": {"secretName": "demo-kv", "items": [{"key": "tls.key", "path": "tls.key"}]},
        },
        {"name": "all", "secret": {"secretName": "demo-kv"}},
        {"name": "theirs", "secret": {"secretName": "unknown"}},
    ]
    made = make_volumes(volumes, tmp_path / "volumes", {}, {"demo-kv": kept})
    assert [file.name for file in made["kv"].iterdir()] == ["tls.key"]
    assert sorted(file.name for file in made["all"].iterdir()) == ["ca.key", "tls.key"]
    assert not list(made["theirs"].iterdir())
    (kept / "tls.key").write_text("new")
    assert (made["kv"] / "tls.key").read_text() == "new"
