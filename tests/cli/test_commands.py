"""Commands that start nothing: what they print, and their exit status."""

import json
import subprocess

import pytest
import yaml

from splitwise_core.manifest import load_cluster
from splitwise_operator.render import render
from tests.cli.support import Desk, changed
from tests.support.cluster import SPLITWISE

COMMANDS = [
    "up",
    "down",
    "status",
    "render",
    "doctor",
    "chat",
    "bench",
    "simulate",
    "plan",
    "model",
    "version",
]


def test_render_prints_exactly_what_the_operator_applies(desk: Desk) -> None:
    expected = render(load_cluster(desk.file))
    done = desk.command("render", "-f", str(desk.file))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(yaml.safe_load_all(done.stdout)) == expected
    assert "&id" not in done.stdout, "parsers of Kubernetes differ on aliases"
    done = desk.says("render", "-f", "cluster.yaml", "-o", "json")
    assert json.loads(done.stdout) == expected


def test_render_takes_another_port(desk: Desk) -> None:
    done = desk.says("render", "-f", str(desk.file), "-o", "json", "--port", "4321")
    services = [item for item in json.loads(done.stdout) if item["kind"] == "Service"]
    assert [port["port"] for port in services[-1]["spec"]["ports"]] == [4321]


def test_a_relative_model_is_meant_from_the_file(desk: Desk) -> None:
    done = desk.says("render", "-f", "cluster.yaml")
    assert f"path: {desk.model}\n" in done.stdout


def test_render_refuses_a_wrong_file(desk: Desk) -> None:
    desk.write(changed("spec.modl", {}))
    done = desk.says("render", "-f", str(desk.file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "spec.modl: did you mean 'model'?" in done.stderr


def test_a_reader_that_goes_away_is_no_bug(desk: Desk) -> None:
    command = [SPLITWISE, "render", "-f", str(desk.file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("command", ["status", "down", "chat"])
def test_without_a_cluster(desk: Desk, command: str) -> None:
    done = desk.says(command, "--state-dir", str(desk.state))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{desk.state}: no cluster is up" in done.stderr
    assert "splitwise up" in done.stderr
    assert not desk.state.exists(), "to ask leaves nothing behind"


def test_a_state_directory_that_is_a_file(desk: Desk) -> None:
    done = desk.says("status", "--state-dir", str(desk.file))
    assert done.returncode == 2
    assert str(desk.file) in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ftp://x"])
def test_chat_where_no_router_is(desk: Desk, url: str) -> None:
    done = desk.says("chat", "--url", url, "-m", "hi")
    assert done.returncode == 2
    assert url.rstrip("/") in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


def findings(desk: Desk, *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = desk.says("doctor", "-o", "json", *arguments)
    assert done.stderr == ""
    return done.returncode, {found["check"]: found for found in json.loads(done.stdout)}


def test_doctor_looks_at_the_machine(desk: Desk) -> None:
    done = desk.command("doctor", "-o", "json")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == int(not all(one["well"] for one in found.values()))
    assert set(found) == {
        "python",
        "cores",
        "memory",
        "shared memory",
        "packages",
        "state directory",
    }
    assert found["python"]["well"]
    assert found["shared memory"]["well"]


def test_doctor_looks_at_a_cluster(desk: Desk) -> None:
    desk.write_model()
    _, found = findings(desk, "-f", str(desk.file))
    assert found["cluster file"]["well"]
    assert found["model"]["well"]
    assert "GiB" in str(found["KV memory"]["found"])
    assert "device" in str(found["RDMA"]["found"])


def test_doctor_finds_what_a_cluster_lacks(desk: Desk) -> None:
    desk.write(changed("spec.pools.0.kvMemory", "16Ti"))
    status, found = findings(desk, "-f", str(desk.file))
    assert status == 1
    assert not found["model"]["well"]
    assert str(desk.model) in str(found["model"]["found"])
    assert not found["KV memory"]["well"]


def test_doctor_explains_a_wrong_file(desk: Desk) -> None:
    desk.write(changed("spec.pools.0.role", "promt"))
    status, found = findings(desk, "-f", str(desk.file))
    assert status == 1
    assert "spec.pools[0].role" in str(found["cluster file"]["found"])
    assert "'prompt'" in str(found["cluster file"]["fix"])


def test_doctor_shows_a_path_as_it_is(desk: Desk) -> None:
    done = desk.says("doctor", "-f", "[red]/[/].yaml")
    assert done.returncode == 1
    assert "[red]/[/].yaml" in done.stdout


def test_help_lists_every_command(desk: Desk) -> None:
    for flag in ("-h", "--help"):
        done = desk.says(flag)
        assert done.returncode == 0
        assert all(f" {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(desk: Desk, command: str) -> None:
    done = desk.says(command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"splitwise {command}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["upp"], "upp", id="an unknown command"),
        pytest.param(["up", "--prot", "1"], "--prot", id="an unknown option"),
        pytest.param(["status", "-o", "xml"], "xml", id="an unknown format"),
        pytest.param(["model", "random", "x"], "--preset", id="a missing option"),
    ],
)
def test_wrong_usage(desk: Desk, arguments: list[str], named: str) -> None:
    done = desk.says(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_version(desk: Desk) -> None:
    assert desk.says("version").stdout.count(".") == 2
