"""A cluster on one machine encrypts KV without being told to, and lets no stranger in."""

import time
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from tests.support.cluster import Cluster, eventually, running, write_cluster
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

REFUSED = "splitwise_kv_connections_refused_total"
EXPIRY = "splitwise_kv_certificate_expiry_timestamp_seconds"
SIDECAR_PORT = 50052


def test_kv_is_encrypted_unless_plaintext_is_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    file = write_cluster(tmp_path, tiny_model, transfer={"transport": "GRPC"})
    with running(file, tmp_path / "state", "--port", str(free_port())) as cluster:
        assert transport_of_an_answer(cluster) == "grpc"
        workers = [*cluster.pods("prompt"), *cluster.pods("token")]
        assert all(cluster.metrics(pod).value(EXPIRY) > time.time() for pod in workers)
        for pod in workers:
            assert greet(pod) is grpc.StatusCode.UNAVAILABLE
        eventually(
            lambda: all(cluster.metrics(pod).value(REFUSED) >= 1 for pod in workers),
            within_s=60,
            message=cluster.logs,
        )
        assert transport_of_an_answer(cluster) == "grpc"


def test_plaintext_that_is_asked_for_is_plaintext(tiny_model: Path, tmp_path: Path) -> None:
    pools = [{"name": "all", "role": "mixed", "kvMemory": "64Mi"}]
    plaintext = {"tls": {"mode": "Plaintext"}}
    file = write_cluster(tmp_path, tiny_model, pools=pools, transfer=plaintext)
    with running(file, tmp_path / "state", "--port", str(free_port())) as cluster:
        (worker,) = cluster.pods("mixed")
        assert greet(worker) is grpc.StatusCode.OK
        assert cluster.metrics(worker).value(EXPIRY) == 0


def transport_of_an_answer(cluster: Cluster) -> str:
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        made = client.completions.create(model="tiny", prompt="1 2 3 4 5 6", max_tokens=8)
    usage: Any = made.usage
    return str(usage.splitwise["transport"])


def greet(pod: dict[str, Any]) -> grpc.StatusCode:
    """What a stranger gets who says Hello in plaintext."""
    with grpc.insecure_channel(f"{pod['address']}:{SIDECAR_PORT}") as channel:
        stub: Any = kv_pb2_grpc.KvPeerStub(channel)
        try:
            stub.Hello(kv_pb2.HelloRequest(), timeout=30)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK
