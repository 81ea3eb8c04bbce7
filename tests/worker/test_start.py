"""What keeps a worker from starting is told in one message, with exit status 2; its threads."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from splitwise_core.errors import UserError
from splitwise_router.text.tokenizer import Tokenizer
from splitwise_worker.cgroup import Cgroups
from splitwise_worker.config import parse
from splitwise_worker.loaded import tokenizer_fingerprint
from splitwise_worker.main import main
from splitwise_worker.threads import compute_threads
from tests.worker.test_process import Worker

Start = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Start]:
    """`fails(option=value)`: starts a worker in this process; what it says when it ends with 2."""
    before = torch.get_num_threads()

    def start(**options: object) -> str:
        command = Worker(tmp_path, checkpoint).command(**options)
        try:
            status = main(command[1:])
        except SystemExit as usage:
            status = usage.code  # type: ignore[assignment]
        assert status == 2
        return capsys.readouterr().err

    yield start
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("role", "boss"),
        ("dtype", "float8"),
        ("kv_memory", 0),
        ("kv_memory", "64Mi"),
        ("max_sequences", -1),
        ("max_sequences", 2**32),
        ("max_length", "long"),
        ("prompt_batch_tokens", 0.5),
        ("lease_seconds", "nan"),
        ("lease_seconds", -1),
        ("lease_seconds", "inf"),
        ("listen", "nowhere"),
        ("listen", "127.0.0.1:99999"),
        ("status", ":9100"),
        ("sidecar_address", ""),
    ],
)
def test_an_argument_out_of_range_is_named(fails: Start, option: str, value: object) -> None:
    said = fails(**{option: value})
    assert f"--{option.replace('_', '-')}" in said
    assert str(value) in said
    assert "Traceback" not in said
    assert " _" not in said, "no name of ours is of use to the reader"


def test_all_arguments_that_are_needed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([])
    said = capsys.readouterr().err
    assert all(f"--{name}" in said for name in ("model", "listen", "kv-memory", "sidecar-socket"))


def damaged(checkpoint: Path, directory: Path, **config: Any) -> Path:
    """A copy of the model with other fields in its config.json."""
    copy = directory / "damaged"
    shutil.copytree(checkpoint, copy)
    fields = json.loads((copy / "config.json").read_text()) | config
    (copy / "config.json").write_text(json.dumps(fields))
    return copy


def test_a_truncated_weight_file_is_named(fails: Start, checkpoint: Path, tmp_path: Path) -> None:
    file = damaged(checkpoint, tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert str(file) in fails(model=file.parent)


def test_weights_of_another_shape_are_named(fails: Start, checkpoint: Path, tmp_path: Path) -> None:
    said = fails(model=damaged(checkpoint, tmp_path, intermediate_size=47))
    assert "gate_proj.weight" in said
    assert "model.safetensors" in said


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"kv_memory": 1000}, "kvMemory"),
        ({"kv_memory": 1 << 62, "max_sequences": 1 << 24}, "kv-memory"),
        ({"max_length": 65}, "model.maxLength"),
        ({"dtype": "bfloat16"}, "model.dtype"),
    ],
    ids=["too little memory", "more memory than there is", "too long", "not on this device"],
)
def test_what_does_not_fit_is_named(fails: Start, options: dict[str, Any], wrong: str) -> None:
    assert wrong in fails(**options)


@pytest.mark.parametrize("option", ["listen", "status"])
def test_a_taken_port_is_named(fails: Start, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in fails(**{option: address})


def test_worker_and_router_know_a_tokenizer_by_the_same_fingerprint(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert tokenizer_fingerprint(checkpoint) == Tokenizer.load(checkpoint, None).fingerprint != b""
    assert tokenizer_fingerprint(tmp_path) == b"", "a router refuses it"


# ---- threads ----


def cgroup(root: Path, **quotas: str) -> Cgroups:
    """A cgroup tree; `quotas` by group, where "_" is the root and "__" goes one level down."""
    for name, text in quotas.items():
        group = root if name == "_" else root.joinpath(*name.split("__"))
        group.mkdir(parents=True, exist_ok=True)
        (group / "cpu.max").write_text(text + "\n")
    membership = root / "membership"
    membership.write_text("0::/pod/worker\n")
    return Cgroups(root, membership)


@pytest.mark.parametrize(
    ("millis", "quotas", "threads"),
    [
        pytest.param(None, {}, 8, id="no limit: every core we may run on"),
        pytest.param("3000", {}, 3, id="the container's limit"),
        pytest.param("2500", {}, 2, id="half a core more is no thread more"),
        pytest.param("200", {}, 1, id="less than a core is one thread"),
        pytest.param("64000", {}, 8, id="a limit above the cores is none"),
        pytest.param(None, {"pod__worker": "400000 100000"}, 4, id="our own cgroup's limit"),
        pytest.param(
            None, {"pod": "250000 100000", "pod__worker": "max 100000"}, 2, id="its pod's"
        ),
        pytest.param(None, {"_": "100000 100000"}, 1, id="that of the root, as containers see it"),
        pytest.param("6000", {"pod": "200000 100000"}, 2, id="the smaller of both"),
    ],
)
def test_threads(millis: str | None, quotas: dict[str, str], threads: int, tmp_path: Path) -> None:
    environment = {} if millis is None else {"SPLITWISE_CPU_MILLIS": millis}
    assert compute_threads(environment, 8, cgroup(tmp_path, **quotas).cpus()) == threads


def test_the_older_kind_of_cgroup_limits_too(tmp_path: Path) -> None:
    groups = cgroup(tmp_path)
    groups.membership.write_text("3:cpu,cpuacct:/pod\n2:memory:/\n")
    for directory in ("cpu/pod", "memory"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "cpu/pod/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/pod/cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "memory/memory.limit_in_bytes").write_text("1000000\n")
    assert (list(groups.cpus()), list(groups.memory_bytes())) == ([3.0], [1_000_000])
    (tmp_path / "cpu/pod/cpu.cfs_quota_us").write_text("-1\n")
    assert list(groups.cpus()) == []


@pytest.mark.parametrize("millis", ["two", "-1", "1.5", ""])
def test_a_limit_that_is_no_number_is_refused(millis: str) -> None:
    with pytest.raises(UserError, match="SPLITWISE_CPU_MILLIS"):
        compute_threads({"SPLITWISE_CPU_MILLIS": millis}, 8, [])
