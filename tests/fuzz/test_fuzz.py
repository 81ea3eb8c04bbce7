"""A short run of the fuzzing, always the same; `make fuzz` sends a million messages."""

from pathlib import Path

from tests.fuzz.run import PART, Fuzz

MESSAGES = 20_000
SECONDS = 240


async def test_no_message_at_any_door_crashes_hangs_or_leaks(tmp_path: Path) -> None:
    """INV-3, INV-4."""
    report = await Fuzz(tmp_path, seed=20).run(MESSAGES, SECONDS)
    assert report["violations"] == []
    assert set(report["doors"]) == set(PART), "every door was knocked at"
    assert report["leases"]["digest_mismatch"] > 0
    assert report["lines_reached"] > 500
