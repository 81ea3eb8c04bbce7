"""Links of a running cluster: measured by themselves, shown by status and metrics."""

from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster, eventually, splitwise

pytestmark = pytest.mark.e2e

MEASURED_WITHIN_S = 60.0


def links(cluster: Cluster) -> list[dict[str, Any]]:
    return cluster.status()["transfer"] or []


def test_status_shows_a_measured_link(cluster: Cluster) -> None:
    eventually(
        lambda: [(e["pairs"], e["measured"]) for e in links(cluster)] == [(2, 2)],
        MEASURED_WITHIN_S,
        lambda: f"{links(cluster)}\n{cluster.logs()}",
    )
    (entry,) = links(cluster)
    assert (entry["from"], entry["to"]) == ("prompt", "token")
    assert (entry["transport"], entry["failing"]) == ("shm", 0)
    assert entry["bytesPerSecond"] > 0
    assert entry["latencySeconds"] >= 0  # 0 where the larger probe was as quick as the smaller
    table = splitwise("status", "--state-dir", str(cluster.state_dir)).stdout
    assert "KV prompt -> token: shm" in table
    text = httpx.get(f"{cluster.url}/metrics").text
    assert 'splitwise_router_links{from_pool="prompt",state="working",to_pool="token"} 2.0' in text
