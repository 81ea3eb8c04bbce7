"""What a ClusterIP does: connections to a Service go to one of its ready endpoints, in turn."""

import argparse
import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.kubelet.api import Api, Object

log = logging.getLogger("services")

SLICES: Final = "/apis/discovery.k8s.io/v1/endpointslices"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
CHUNK_BYTES: Final = 1 << 16

Address = tuple[str, int]
Routes = dict[Address, list[Address]]


def routes(services: Iterable[Object], slices: Iterable[Object]) -> Routes:
    """For each address of a Service those of its ready endpoints; one without any is left out."""
    behind: dict[tuple[str, str], list[Object]] = {}
    for each in slices:
        meta = each["metadata"]
        name = meta.get("labels", {}).get(SERVICE_LABEL, "")
        behind.setdefault((meta["namespace"], name), []).append(each)
    found: Routes = {}
    for service in services:
        own = behind.get((service["metadata"]["namespace"], service["metadata"]["name"]), [])
        address = service["spec"].get("clusterIP") or "None"
        for port in service["spec"].get("ports", []) if address != "None" else []:
            if targets := sorted(_ready(own, port.get("name", ""))):
                found[address, port["port"]] = targets
    return found


def _ready(slices: Iterable[Object], port_name: str) -> set[Address]:
    return {
        (address, port["port"])
        for each in slices
        for port in each.get("ports") or []
        for endpoint in each.get("endpoints") or []
        for address in endpoint["addresses"]
        if (port.get("name") or "") == port_name
        and endpoint.get("conditions", {}).get("ready") is not False
    }


@dataclass(slots=True)
class Forwarder:
    """Listens where Services with ready endpoints are, and nowhere else."""

    api: Api
    _services: dict[str, Object] = field(default_factory=dict)
    _slices: dict[str, Object] = field(default_factory=dict)
    _routes: Routes = field(default_factory=dict)
    _servers: dict[Address, asyncio.Server] = field(default_factory=dict)
    _turn: dict[Address, int] = field(default_factory=dict)

    async def follow(self) -> None:
        """Forwards until it is cancelled."""
        async with asyncio.TaskGroup() as watches:
            watches.create_task(self._watch("/api/v1/services", self._services))
            watches.create_task(self._watch(SLICES, self._slices))

    async def _watch(self, path: str, known: dict[str, Object]) -> None:
        async for kind, found in self.api.watch(path):
            if kind == "LISTED":
                known.clear()
                known.update({each["metadata"]["uid"]: each for each in found["items"]})
            elif kind == "DELETED":
                known.pop(found["metadata"]["uid"], None)
            elif kind in ("ADDED", "MODIFIED"):
                known[found["metadata"]["uid"]] = found
            await self._listen(routes(self._services.values(), self._slices.values()))

    async def _listen(self, wanted: Mapping[Address, list[Address]]) -> None:
        self._routes = dict(wanted)
        for address in self._servers.keys() - wanted.keys():
            self._servers.pop(address).close()
        for address in wanted.keys() - self._servers.keys():

            async def forward(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                address: Address = address,
            ) -> None:
                await self._forward(address, reader, writer)

            try:
                self._servers[address] = await asyncio.start_server(forward, *address)
            except OSError as error:  # the next change tries again
                log.warning("%s:%d: %s", *address, error)

    async def _forward(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        targets = self._routes.get(address, [])
        turn = self._turn[address] = self._turn.get(address, -1) + 1
        try:
            if not targets:
                return
            there, back = await asyncio.open_connection(*targets[turn % len(targets)])
            try:
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
            finally:
                back.close()
        except OSError as error:
            log.info("%s:%d: %s", *address, error)
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def main() -> None:
    """Runs until it is ended."""
    parser = argparse.ArgumentParser(prog="services")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    async def run() -> None:
        await Forwarder(Api.connect(given.kubeconfig)).follow()

    asyncio.run(run())


if __name__ == "__main__":
    main()
