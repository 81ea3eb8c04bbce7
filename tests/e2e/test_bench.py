"""`splitwise bench` on a whole cluster."""

import json
from pathlib import Path

import pytest

from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.profile import profile_of
from tests.support.cluster import Cluster, all_blocks_are_free, splitwise

pytestmark = pytest.mark.e2e


def test_a_running_cluster_is_measured_for_the_planner(cluster: Cluster, tmp_path: Path) -> None:
    """Its phase times are read and fitted, and what requests cost beside them is told."""
    out = tmp_path / "times.csv"
    sizes = ["--prompt-tokens", "32,256", "--under-way", "3", "--output-tokens", "32"]
    about = ["--model", "tiny", "--gpu", "cpu", "--repeats", "5", "--out", str(out), "-o", "json"]
    done = splitwise("bench", "profile", "--url", cluster.url, *sizes, *about)
    assert done.returncode == 0, done.stdout + done.stderr
    overheads = json.loads(done.stdout)
    assert set(overheads) == {"request_s", "transfer_latency_s"}
    shapes = load_phase_times(out)["tiny", "cpu", 1]
    alone = [s for s in shapes if s.prompt_ms and s.token_ms]
    assert [(s.prompt_tokens, s.sequences) for s in alone] == [(32, 1), (256, 1)]
    # An answer that came all at once, because its reader had no processor, tells no times.
    assert all(1 <= len(s.prompt_ms) <= 5 for s in alone)
    assert max(s.sequences for s in shapes if s.token_ms) > 1, "several decoded together"
    profile = profile_of({("tiny", "cpu", 1): shapes}, "tiny", "cpu", 1)
    assert profile.prompt.seconds(128, 128) > 0
    assert profile.decode.seconds(2, 100) > 0


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
