"""An API server as far as EndpointSlices go: list and watch over HTTP, and all that goes wrong.

It keeps every change with its version, as etcd does; `compact` forgets them, so that a watch from
before gets 410.
"""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]


def endpoint_slice(
    name: str,
    role: str | None = "mixed",
    endpoints: list[Object] | None = None,
    port: int = 50051,
    **fields: Any,
) -> Object:
    """A slice of the Service of a pool that is called as its role, as the controller writes it."""
    labels = {"splitwise.dev/cluster": "demo"}
    if role is not None:
        labels |= {"splitwise.dev/role": role, "splitwise.dev/pool": role}
    ports = [
        {"name": "kv", "port": 50052, "protocol": "TCP"},
        {"name": "grpc", "port": port, "protocol": "TCP"},
    ]
    return {
        "metadata": {"name": name, "labels": labels},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [] if endpoints is None else endpoints,
    } | fields


def pod(name: str, address: str = "127.0.0.1", **conditions: bool | None) -> Object:
    """One endpoint of a slice."""
    usual = {"ready": True, "serving": True, "terminating": False}
    reference = {"kind": "Pod", "name": name, "namespace": "ns"}
    return {"addresses": [address], "conditions": usual | conditions, "targetRef": reference}


class FakeApi:
    """Listens on 127.0.0.1. What a test does to it shows in `asked`, the queries that came."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.status = 200  # another one answers everything
        self.bookmarks = False
        self.port = 0
        self._objects: dict[str, Object] = {}
        self._events: list[tuple[int, Object]] = []
        self._version = 100
        self._forgotten = 100
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._watches: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> "FakeApi":
        """Begins to listen, at the same port as before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Goes away without a word."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def kubeconfig(self, directory: Path) -> Path:
        """A kubeconfig that names this server."""
        named = {"name": "fake"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [named | {"cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [named | {"user": {"token": "secret"}}],
            "contexts": [named | {"context": {"cluster": "fake", "user": "fake"}}],
        }
        path = directory / "kubeconfig"
        path.write_text(json.dumps(document))
        return path

    @property
    def watches(self) -> int:
        """Watches that are open."""
        return len(self._watches)

    async def put(self, *slices: Object) -> None:
        """Adds or replaces slices."""
        for item in slices:
            known = item["metadata"]["name"] in self._objects
            self._objects[item["metadata"]["name"]] = item
            await self._happened("MODIFIED" if known else "ADDED", item)

    async def delete(self, name: str) -> None:
        """Removes a slice."""
        await self._happened("DELETED", self._objects.pop(name))

    async def _happened(self, kind: str, item: Object) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, {"type": kind, "object": json.loads(json.dumps(item))}))
        async with self._changed:
            self._changed.notify_all()

    async def pass_by(self) -> None:
        """Something else changes: the version moves on, and only a bookmark tells."""
        self._version += 1
        bookmark = {"metadata": {"resourceVersion": str(self._version)}}
        self._events.append((self._version, {"type": "BOOKMARK", "object": bookmark}))
        async with self._changed:
            self._changed.notify_all()

    def compact(self) -> None:
        """Forgets how it came to be as it is."""
        self._events.clear()
        self._forgotten = self._version

    def cut(self) -> None:
        """Breaks every watch in the middle."""
        for writer in self._watches:
            writer.transport.abort()
        self._watches.clear()

    # ---- HTTP ----

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.split(b" ")[1].decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        assert url.path == "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices", target
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append(query)
        if self.status != 200:
            self._whole(writer, self.status, {"kind": "Status", "message": "as it was asked to"})
        elif query.get("watch") == "true":
            await self._watch(writer, int(query["resourceVersion"]), int(query["timeoutSeconds"]))
        else:
            meta = {"resourceVersion": str(self._version)}
            items = list(self._objects.values())
            self._whole(writer, 200, {"metadata": meta, "items": items})

    def _whole(self, writer: asyncio.StreamWriter, status: int, document: Object) -> None:
        body = json.dumps(document).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    async def _watch(self, writer: asyncio.StreamWriter, version: int, within_s: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        self._watches.add(writer)
        try:
            async with asyncio.timeout(within_s):
                await self._stream(writer, version)
        except TimeoutError:
            pass
        finally:
            self._watches.discard(writer)
        writer.write(b"0\r\n\r\n")

    async def _stream(self, writer: asyncio.StreamWriter, version: int) -> None:
        """Events after `version`, each in two chunks: lines need not be what the network sends."""
        if version < self._forgotten:
            gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
            self._chunks(writer, {"type": "ERROR", "object": gone})
            return
        while not writer.is_closing():
            for at, event in [*self._events]:
                if at > version and (event["type"] != "BOOKMARK" or self.bookmarks):
                    version = at
                    self._chunks(writer, event)
            await writer.drain()
            async with self._changed:
                await self._changed.wait()

    def _chunks(self, writer: asyncio.StreamWriter, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        for part in (line[:20], line[20:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
