"""The Kubernetes API as the operator uses it: few verbs, plain objects, a deadline each."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from splitwise_operator.kinds import Kind
from splitwise_operator.names import Object

FIELD_MANAGER: Final = "splitwise-operator"
AUTOSCALER: Final = "splitwise-autoscaler"
"""The field manager of replicas that the autoscaler has set."""
DEADLINE_S: Final = 20.0
WATCH_S: Final = 290
"""A watch is opened anew this often, before the API server closes it."""
PAGE: Final = 500
"""Objects of one page of a list: bounds memory on both sides."""

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


def time_now() -> str:
    """The time as a status, a condition or an Event has it, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """The API server's refusal, or none of its words at all: `code` is 0 then."""

    code: int
    reason: str
    message: str
    causes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.message


class Kube:
    """A client for one API server. Every method raises ApiError."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def apply(self, kind: Kind, body: Object, *, force: bool) -> Object:
        """Server-side apply; the object as it is then. Without `force` others' fields are left."""
        meta = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        path = kind.path(meta["namespace"], meta["name"])
        return await self._call("PATCH", path, query, body, _APPLY)

    async def apply_status(self, kind: Kind, body: Object) -> None:
        """Server-side apply of the status alone."""
        meta = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = f"{kind.path(meta['namespace'], meta['name'])}/status"
        await self._call("PATCH", path, query, body, _APPLY)

    async def scale(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        replicas: int,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Sets spec.replicas and nothing else; the object as it is then."""
        body = {"spec": {"replicas": replicas}}
        query = {"fieldManager": manager}
        return await self._call("PATCH", kind.path(namespace, name), query, body, _MERGE)

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None:
        """Sets annotations, takes away those that are None. An object that is gone is no error."""
        body = {"metadata": {"annotations": dict(annotations)}}
        query = {"fieldManager": FIELD_MANAGER}
        try:
            await self._call("PATCH", kind.path(namespace, name), query, body, _MERGE)
        except ApiError as error:
            if error.code != 404:
                raise

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Deletes that very object; one that is gone or another by now is no error."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", kind.path(namespace, name), {}, body)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def create(self, kind: Kind, body: Object) -> None:
        """Creates an object."""
        await self._call("POST", kind.path(body["metadata"]["namespace"]), {}, body)

    async def replace(self, kind: Kind, body: Object) -> None:
        """Replaces an object, unless it has changed since it was read (409)."""
        meta = body["metadata"]
        await self._call("PUT", kind.path(meta["namespace"], meta["name"]), {}, body)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self._call("GET", kind.path(namespace, name), {})
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        try:
            known = await self._call("GET", kind.group_path, {})
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return any(found["name"] == kind.plural for found in known["resources"])

    async def list(
        self, kind: Kind, namespace: str | None, selector: str
    ) -> tuple[list[Object], str]:
        """All objects that `selector` matches, and the version from which to watch."""
        found: list[Object] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = await self._call("GET", kind.path(namespace), query)
            found += page["items"]
            if not page["metadata"].get("continue"):
                return found, page["metadata"]["resourceVersion"]
            query["continue"] = page["metadata"]["continue"]

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str, version: str
    ) -> AsyncGenerator[Object, None]:
        """Events from `version` on, until the API server ends the stream."""
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        # Bookmarks come every minute: a stream that is silent for longer is dead.
        timeout = aiohttp.ClientTimeout(total=WATCH_S + 30, sock_connect=10, sock_read=90)
        response = await self._send("GET", kind.path(namespace), query, None, "", timeout)
        try:
            async for line in response.content:
                yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, "Disconnected", f"the watch broke: {error!r}") from error
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        response = await self._send(method, path, query, body, content, timeout)
        try:
            answer: Object = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, "Disconnected", f"the answer broke: {error!r}") from error
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        made: Any = await self._api.param_serialize(
            method, path, None, list(query.items()), headers, None, None, None, ["BearerToken"]
        )
        _, url, headers, _, _ = made
        try:
            answered = await self._api.rest_client.request(
                method, url, headers, body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise ApiError(0, "Unreachable", f"the API server does not answer: {why}") from error
        response: aiohttp.ClientResponse = answered.response
        if response.status >= 400:
            raise await _refusal(response)
        return response


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    try:
        said = json.loads(await asyncio.wait_for(response.read(), DEADLINE_S))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        said = {}
    causes = (said.get("details") or {}).get("causes") or []
    return ApiError(
        response.status,
        said.get("reason") or response.reason or "",
        said.get("message") or f"HTTP status {response.status}",
        tuple((cause.get("field", ""), cause.get("message", "")) for cause in causes),
    )
