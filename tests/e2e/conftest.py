"""One cluster for all tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import Cluster, all_blocks_are_free, running, write_cluster
from tests.support.door import JSON, Door
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def cluster(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One prompt worker, two token workers, a router."""
    directory = tmp_path_factory.mktemp("cluster")
    file = write_cluster(directory, tiny_model)
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def two_of_each(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of each role, so that there is always another one."""
    directory = tmp_path_factory.mktemp("two")
    pools = [
        {"name": "prompt", "role": "prompt", "replicas": 2, "kvMemory": "256Mi"},
        {"name": "token", "role": "token", "replicas": 2, "kvMemory": "256Mi"},
    ]
    file = write_cluster(directory, tiny_model, pools=pools)
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[Door]:
    """The door, behind which everything still works at the end."""
    url = cluster.url
    with httpx.Client(base_url=url, timeout=30, headers=JSON) as http:
        door = Door(url, http)
        door.serves()
        yield door
        door.serves()
        all_blocks_are_free(cluster)
