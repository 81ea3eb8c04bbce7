"""From EndpointSlices to workers: which count, where they listen, and who gets new work."""

from typing import Any

import pytest

from splitwise_router.discovery import Endpoint
from splitwise_router.endpoint_slices import endpoints_of
from tests.router.fake_api import endpoint_slice, pod

NO_PORT = {"ports": [{"name": "kv", "port": 50052}]}


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        pytest.param([], [], id="no slices are no workers"),
        pytest.param(
            [endpoint_slice("s", "prompt", [pod("p0", "10.0.0.7")])],
            [Endpoint("10.0.0.7:50051", "p0", "prompt", "prompt")],
            id="a ready pod is a worker at the port named grpc",
        ),
        pytest.param(
            [endpoint_slice("s", "router", [pod("r0")])], [], id="the routers' own Service is not"
        ),
        pytest.param(
            [endpoint_slice("s", None, [pod("p0")])], [], id="nor is a Service without a role"
        ),
        pytest.param(
            [endpoint_slice("s", endpoints=[pod("p0")], **NO_PORT)],
            [],
            id="nor one without the port",
        ),
        pytest.param(
            [endpoint_slice("s", endpoints=None), {"metadata": {"name": "bare"}}],
            [],
            id="an empty slice is no trouble",
        ),
        pytest.param(
            [endpoint_slice("s", endpoints=[pod("p0", "fd00::7")], addressType="IPv6")],
            [Endpoint("[fd00::7]:50051", "p0", "mixed", "mixed")],
            id="an IPv6 address is written in brackets",
        ),
        pytest.param(
            [
                endpoint_slice("six", endpoints=[pod("p0", "fd00::7")], addressType="IPv6"),
                endpoint_slice("four", endpoints=[pod("p0", "10.0.0.7")]),
            ],
            [Endpoint("10.0.0.7:50051", "p0", "mixed", "mixed")],
            id="a pod with two addresses is one worker",
        ),
        pytest.param(
            [
                endpoint_slice("old", endpoints=[pod("p0", "10.0.0.7", ready=False)]),
                endpoint_slice("new", endpoints=[pod("p0", "10.0.0.7")]),
            ],
            [Endpoint("10.0.0.7:50051", "p0", "mixed", "mixed")],
            id="a pod that moves between slices is ready where it is ready",
        ),
        pytest.param(
            [endpoint_slice("s", endpoints=[{"addresses": ["10.0.0.7"]}])],
            [Endpoint("10.0.0.7:50051", "10.0.0.7", "mixed", "mixed")],
            id="what has no pod is called by its address, and what says nothing is ready",
        ),
    ],
)
def test_workers(slices: list[dict[str, Any]], expected: list[Endpoint]) -> None:
    assert endpoints_of(slices) == frozenset(expected)


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        pytest.param({}, True, id="ready"),
        pytest.param({"ready": None, "serving": None, "terminating": None}, True, id="unknown"),
        pytest.param({"ready": False, "serving": False}, False, id="not ready"),
        pytest.param({"ready": False, "terminating": True}, False, id="terminating and serving"),
        pytest.param(
            {"serving": False}, False, id="published though it does not serve: publishNotReady"
        ),
        pytest.param({"terminating": True}, False, id="published though it terminates"),
    ],
)
def test_only_a_pod_that_is_ready_and_stays_gets_new_work(
    conditions: dict[str, bool | None], ready: bool
) -> None:
    (endpoint,) = endpoints_of([endpoint_slice("s", endpoints=[pod("p0", **conditions)])])
    assert endpoint.ready is ready
