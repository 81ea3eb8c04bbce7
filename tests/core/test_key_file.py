"""Keys change while a process runs, as a mounted Secret does; an accident changes nothing."""

import os
from pathlib import Path

import pytest

from splitwise_core.errors import UserError
from splitwise_core.key_file import KeyFile

OLD, NEW = "0a" * 32, "0b" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "capability.key"
    path.write_text(f"{OLD}\n")
    return path


@pytest.fixture
def failures() -> list[None]:
    return []


@pytest.fixture
def key_file(path: Path, failures: list[None]) -> KeyFile:
    made = KeyFile(path, lambda: failures.append(None))
    made.load()
    return made


def replace(path: Path, text: str) -> None:
    """As the kubelet does: a new file takes the old one's name."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    os.replace(draft, path)


def test_a_new_key_is_found_without_a_restart(path: Path, key_file: KeyFile) -> None:
    assert key_file.keys == (bytes.fromhex(OLD),)
    replace(path, f"{NEW}\n{OLD}\n")
    assert key_file.keys == (bytes.fromhex(NEW), bytes.fromhex(OLD))


@pytest.mark.parametrize("text", ["", "nonsense", f"{NEW}\n\N{SNOWMAN}", None])
def test_a_file_that_does_not_read_any_more_is_said_once_and_changes_nothing(
    path: Path,
    key_file: KeyFile,
    failures: list[None],
    text: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if text is None:
        path.unlink()
    else:
        replace(path, text)
    for _ in range(3):
        assert key_file.keys == (bytes.fromhex(OLD),)
    assert (len(failures), len(caplog.records)) == (1, 1)
    replace(path, NEW)
    assert key_file.keys == (bytes.fromhex(NEW),)


@pytest.mark.parametrize("text", ["", "nonsense", None])
def test_nothing_starts_without_keys(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        KeyFile(path, lambda: None).load()
    assert f"--capability-key {path}" in str(caught.value)
    assert "fix: " in str(caught.value)
