"""NIXL's libraries for verbs are replaced by the system's, or the image is not built."""

from pathlib import Path

import pytest

from images import system_verbs


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Where a wheel of NIXL's was installed."""
    libraries = tmp_path / "nixl_cu13.libs"
    libraries.mkdir()
    for name in ("libibverbs-1de1263b.so.1.14", "libmlx5-79ef1d27.so.1.25", "libucp-12ab.so.0"):
        (libraries / name).write_text("the wheel's")
    return tmp_path


def test_verbs_are_links_to_the_systems_and_the_rest_stays(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_verbs, "_system", lambda name: Path(f"/usr/lib/{name}.so.1"))
    assert system_verbs.main(packages) == 0
    found = {path.name: path for path in (packages / "nixl_cu13.libs").iterdir()}
    assert found["libibverbs-1de1263b.so.1.14"].readlink() == Path("/usr/lib/libibverbs.so.1")
    assert found["libmlx5-79ef1d27.so.1.25"].readlink() == Path("/usr/lib/libmlx5.so.1")
    assert found["libucp-12ab.so.0"].read_text() == "the wheel's"


def test_a_system_without_verbs_builds_no_image(
    packages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_verbs, "_system", lambda name: None)
    assert system_verbs.main(packages) == 1
    assert "install libibverbs1" in capsys.readouterr().err


def test_a_wheel_without_verbs_is_not_taken_for_done(tmp_path: Path) -> None:
    assert system_verbs.main(tmp_path) == 1
