"""Which pods a cluster has on one machine, and what routers are told of them."""

import ipaddress
import json
from pathlib import Path

import pytest
import yaml

from splitwise_cli.runner import plan
from splitwise_cli.runner.gpus import gpus
from splitwise_core.manifest import parse_cluster
from splitwise_operator.render import render

CLUSTER = """
apiVersion: splitwise.dev/v1alpha1
kind: SplitwiseCluster
metadata: {name: demo}
spec:
  model: {name: tiny, path: /models/tiny}
  router: {replicas: 2}
  pools:
  - {name: prompt, role: prompt, replicas: 2}
  - {name: token, role: token, replicas: 3}
"""


def objects() -> list[plan.Object]:
    return render(parse_cluster(yaml.safe_load(CLUSTER)))


def test_there_is_a_pod_for_each_replica() -> None:
    names = [pod.name for pod in plan.pods(objects())]
    assert names == [
        "demo-prompt-0",
        "demo-prompt-1",
        "demo-token-0",
        "demo-token-1",
        "demo-token-2",
        "demo-router-0",
        "demo-router-1",
    ]


def test_every_pod_has_an_address_of_its_own_and_the_router_is_at_home() -> None:
    pods = plan.pods(objects())
    addresses = [pod.address for pod in pods]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.IPv4Address(address).is_loopback for address in addresses)
    assert [pod.address for pod in pods if pod.name == "demo-router-0"] == ["127.0.0.1"]


def test_two_clusters_hardly_ever_share_addresses() -> None:
    runs = {plan.pods(objects())[0].address for _ in range(20)}
    assert len(runs) > 15


def test_routers_are_told_the_workers_and_nothing_else() -> None:
    rendered = objects()
    pods = plan.pods(rendered)
    told = plan.config_maps(rendered, pods)["demo-endpoints"]["endpoints.json"]
    assert json.loads(told)["workers"] == [
        {"address": f"{p.address}:50051", "pod": p.name, "pool": p.pool, "role": p.role}
        for p in pods
        if p.role != "router"
    ]


def test_gpus_go_to_those_who_ask_and_none_goes_twice() -> None:
    document = yaml.safe_load(CLUSTER)
    document["spec"]["pools"][1]["gpu"] = {}
    handed = {p.name: p.gpus for p in plan.pods(render(parse_cluster(document)), "0123")}
    assert handed["demo-token-0"] == ("0",)
    assert handed["demo-token-2"] == ("2",)
    assert handed["demo-prompt-0"] == handed["demo-router-0"] == ()


def test_gpus_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus(tmp_path) == []
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus(tmp_path) == ["0", "2", "10"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f")
    assert gpus(tmp_path) == ["3", "GPU-8f"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert gpus(tmp_path) == []
