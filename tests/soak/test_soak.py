"""A short soak; `make soak` runs ten minutes of it."""

from pathlib import Path

from tests.soak.run import Soak

SECONDS = 20


async def test_processes_that_die_and_hang_leak_no_block_and_damage_no_kv(tmp_path: Path) -> None:
    """INV-3, INV-4, INV-6."""
    report = await Soak(tmp_path, seed=7).run(SECONDS)
    assert report["violations"] == []
    assert report["leaked_blocks"] == 0
    assert report["accepted_mismatches"] == 0
    assert report["verified"] > 0
    assert sum(report["faults"].values()) > 0
