"""What keeps a sidecar from starting: said at once, with the fix."""

from pathlib import Path

import pytest

from splitwise_sidecar.main import main


def test_without_rdma_it_ends_where_rdma_is_required(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--socket", str(tmp_path / "kv.sock"), "--listen", "127.0.0.1:1"]
    arguments += ["--status", "127.0.0.1:1", "--role", "prompt", "--pool", "prompt"]
    assert main([*arguments, "--require-rdma"]) == 2
    said = capsys.readouterr().err
    assert "spec.transfer.requireRdma" in said
    assert "fix: " in said


@pytest.mark.parametrize("text", [None, "", "no key"], ids=["no file", "no key", "nonsense"])
def test_without_a_key_it_ends_where_capabilities_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "capability.key"
    if text is not None:
        path.write_text(text)
    arguments = ["--socket", str(tmp_path / "kv.sock"), "--listen", "127.0.0.1:0"]
    arguments += ["--status", "127.0.0.1:0", "--role", "prompt", "--pool", "prompt"]
    assert main([*arguments, "--capability-key", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"--capability-key {path}" in said
    assert "fix: " in said
