"""What the kubelet says to an API server: plain requests, and watches that outlive outages."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

log = logging.getLogger("kubelet.api")

Object = dict[str, Any]

RETRY_S: Final = (0.1, 0.2, 0.5, 1.0)
WATCH_S: Final = 300
MERGE: Final = "application/merge-patch+json"


class Refused(Exception):
    """The API server's answer is an error. `code` is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """An API server. Every call raises Refused, or httpx.TransportError when nobody answers."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @classmethod
    def connect(cls, kubeconfig: Path) -> "Api":
        """As a kubeconfig with a token says."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {user['token']}"}
        timeout = httpx.Timeout(10.0)
        limits = httpx.Limits(max_connections=None)
        return cls(
            httpx.AsyncClient(
                base_url=cluster["server"],
                verify=trust,
                headers=headers,
                timeout=timeout,
                limits=limits,
            )
        )

    async def get(self, path: str) -> Object:
        """The object or list at a path."""
        return await self._send("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """The object, created in the collection at a path."""
        return await self._send("POST", path, body)

    async def merge(self, path: str, body: Object) -> Object:
        """The object at a path with `body` merged into it."""
        return await self._send("PATCH", path, body, {"Content-Type": MERGE})

    async def delete(self, path: str, body: Object) -> Object:
        """Deletes the object at a path; `body` is the DeleteOptions."""
        return await self._send("DELETE", path, body)

    async def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        content = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if headers is None else headers
        answer = await self._client.request(method, path, content=content, headers=kind)
        if answer.is_error:
            raise _refusal(answer.status_code, answer.text)
        found: Object = answer.json()
        return found

    async def watch(self, path: str, query: str = "") -> AsyncIterator[tuple[str, Object]]:
        """What is in the collection at a path and what happens to it, for ever.

        Each (re)start yields `LISTED` with the whole list, then `ADDED`, `MODIFIED` and `DELETED`
        with an object. An API server that is away is waited for.
        """
        failures = 0
        while True:
            try:
                listed = await self.get(f"{path}?{query}")
                yield "LISTED", listed
                failures = 0
                version = listed["metadata"]["resourceVersion"]
                async for event in self._changes(path, query, version):
                    yield event
            except (httpx.TransportError, Refused) as error:
                log.info("watch of %s: %s", path, error or type(error).__name__)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    async def _changes(
        self, path: str, query: str, version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        wanted = f"{path}?{query}&watch=true&resourceVersion={version}&timeoutSeconds={WATCH_S}"
        timeout = httpx.Timeout(10.0, read=WATCH_S + 10.0)
        async with self._client.stream("GET", wanted, timeout=timeout) as answer:
            if answer.is_error:
                raise _refusal(answer.status_code, (await answer.aread()).decode())
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":  # such as 410: what we have seen is too old
                    raise Refused(event["object"].get("code", 0), event["object"]["message"])
                yield event["type"], event["object"]


async def insist(attempt: Callable[[], Any]) -> Any:
    """What `attempt` returns, made again until the API server is there. Raises Refused."""
    failures = 0
    while True:
        try:
            return await attempt()
        except httpx.TransportError:
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1
        except Refused as refused:
            if refused.code < 500 and refused.code != 429:
                raise
            await asyncio.sleep(RETRY_S[-1])


def _refusal(code: int, text: str) -> Refused:
    try:
        return Refused(code, json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return Refused(code, text[:500])
