"""An external metrics API, as Prometheus' adapter or KEDA is one: it tells what workers say.

`served` registers it with the API server, which asks it over HTTPS whenever a
HorizontalPodAutoscaler asks the API server.
"""

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

from tests.support.certificates import bundle, put
from tests.support.machine import Machine

GROUP: Final = "external.metrics.k8s.io"
ROOT: Final = f"/apis/{GROUP}/v1beta1"
NAME: Final = "metrics-adapter"
ADDRESS: Final = ("10.244.250.1", 6443)
"""Of the tests' own network; no node has it."""

Object = dict[str, Any]
Ask = Callable[[str, str], float]
"""(namespace, metric) -> its value now."""


@contextmanager
def served(machine: Machine, namespace: str, directory: Path, ask: Ask) -> Iterator[list[str]]:
    """The paths that it was asked for, while it is there. Must be called inside the network."""
    files = bundle(f"{NAME}.{namespace}.svc")
    asked: list[str] = []
    server = ThreadingHTTPServer(ADDRESS, _handler(ask, asked))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    place = put(directory / NAME, files)
    context.load_cert_chain(place / "tls.crt", place / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = Thread(target=server.serve_forever, daemon=True)
    serving.start()
    service = _api_service(namespace, files["ca.crt"])
    machine.apply(*_addresses(), service, namespace=namespace)
    try:
        yield asked
    finally:
        machine.kubectl("delete", "apiservice", service["metadata"]["name"])
        server.shutdown()
        server.server_close()
        serving.join()


def _handler(ask: Ask, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            found = _answer(path, ask)
            body = json.dumps(found or {}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


def _answer(path: str, ask: Ask) -> Object | None:
    if path == ROOT:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{GROUP}/v1beta1",
        } | {"resources": []}
    if not path.startswith(f"{ROOT}/namespaces/"):
        return None
    namespace, metric = path.removeprefix(f"{ROOT}/namespaces/").split("/")
    item = {
        "metricName": metric,
        "metricLabels": {},
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": f"{ask(namespace, metric) * 1000:.0f}m",
    }
    kind = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/v1beta1"}
    return kind | {"metadata": {}, "items": [item]}


def _addresses() -> list[Object]:
    host, port = ADDRESS
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": port}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
    }
    return [service, endpoints]


def _api_service(namespace: str, authority: bytes) -> Object:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{GROUP}"},
        "spec": {
            "service": {"name": NAME, "namespace": namespace, "port": 443},
            "group": GROUP,
            "version": "v1beta1",
            "caBundle": base64.b64encode(authority).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
