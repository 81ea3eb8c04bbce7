"""`splitwise bench` on a whole cluster."""

import json
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, all_blocks_are_free, splitwise

pytestmark = pytest.mark.e2e


def test_a_burst_is_answered_rightly_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    load = ["--rate", "40", "--burst", "20", "--requests", "60"]
    sizes = ["--prompt-tokens", "64", "--output-tokens", "24"]
    done = splitwise("bench", "--url", cluster.url, *load, *sizes, "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    counts = report["requests"]
    assert counts["ok"] == counts["checked"] == 60
    assert report["kv_bytes"] > 0, "prompts and answers were computed apart"
    assert report["stages_s"]["transfer"]["p50"] > 0
    assert report["ttft_s"]["p50"] < report["e2e_s"]["p50"]
    all_blocks_are_free(cluster)
