"""One node: `python -m tests.support.kubelet --kubeconfig FILE --node FILE --images FILE ...`."""

import argparse
import asyncio
import logging
import signal
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.support.kubelet import node as nodes
from tests.support.kubelet.api import Api
from tests.support.kubelet.house import House
from tests.support.kubelet.images import Images
from tests.support.kubelet.node import Node
from tests.support.kubelet.pods import Pods


def main() -> None:
    """Runs until SIGTERM, which ends all pods at once."""
    parser = argparse.ArgumentParser(prog="kubelet")
    for name in ("kubeconfig", "node", "images", "directory"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_run(given))


async def _run(given: argparse.Namespace) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    house = House(
        api=Api.connect(given.kubeconfig),
        node=Node.read(given.node),
        images=Images(given.images),
        directory=given.directory,
        service_environment=_service_environment(given.kubeconfig),
    )
    house.logs.mkdir(parents=True, exist_ok=True)
    pods = Pods(house)
    work = [asyncio.create_task(nodes.keep(house.api, house.node))]
    work.append(asyncio.create_task(pods.follow()))
    waiting = asyncio.create_task(over.wait())
    done, _ = await asyncio.wait([waiting, *work], return_when=asyncio.FIRST_COMPLETED)
    pods.kill()
    for task in done - {waiting}:
        task.result()  # raises what has ended it


def _service_environment(kubeconfig: Path) -> dict[str, str]:
    """Where containers find the API server."""
    server = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    host, port = str(server.hostname), str(server.port)
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
    }


if __name__ == "__main__":
    main()
