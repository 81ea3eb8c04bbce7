"""The API server, as far as a router asks it: EndpointSlices listed and watched, as plain JSON.

The client library is imported only when it is needed: that takes seconds and 60 MB.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from splitwise_core.errors import UserError
from splitwise_router.discovery import SliceQuery
from splitwise_router.endpoint_slices import EXPIRED, SlicesFailed

ANSWER_S: Final = 10.0
"""A list, or the beginning of a watch, takes milliseconds on an API server that is well."""

GRACE_S: Final = 10.0
"""A watch that the server does not end in time is ended here after so much more."""

_REASONS: Final = {401: "denied", 403: "denied", 410: EXPIRED}


class KubernetesApi:
    """`endpoint_slices.SliceApi` over the official client. `call` is its list method."""

    def __init__(self, client: Any, call: Any) -> None:
        self._client = client
        self._call = call

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def list(self, query: SliceQuery) -> Mapping[str, Any]:
        """The EndpointSliceList. Raises SlicesFailed."""
        with _translated():
            async with asyncio.timeout(ANSWER_S):
                response = await self._open(query, _request_timeout=ANSWER_S)
                async with response:
                    return dict(json.loads(await response.read()))

    @asynccontextmanager
    async def watch(
        self, query: SliceQuery, version: str, within_s: int
    ) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """The events after `version`, once the server has agreed. Raises SlicesFailed."""
        with _translated():
            async with asyncio.timeout(ANSWER_S):
                response = await self._open(
                    query,
                    watch=True,
                    resource_version=version,
                    allow_watch_bookmarks=True,
                    timeout_seconds=within_s,
                    _request_timeout=within_s + GRACE_S,
                )
            async with response:
                yield _events(response)

    async def _open(self, query: SliceQuery, **asked: Any) -> Any:
        """The response, whose status is 200."""
        response = await self._call(query.namespace, label_selector=query.selector, **asked)
        if response.status != 200:
            async with response:
                detail = (await response.text())[:300]
            reason = _REASONS.get(response.status, "failed")
            raise SlicesFailed(reason, f"the API server answers {response.status}: {detail}")
        return response


async def connect(kubeconfig: str | None) -> KubernetesApi:
    """The API server named by `kubeconfig`, or else of the cluster that this pod runs in.

    Asks nothing yet. Raises UserError when there is no way to know the server.
    """
    try:
        client, config = await asyncio.to_thread(_client_and_config)
    except ImportError as error:
        raise UserError(
            "environment",
            where="endpointSlices",
            wrong=f"the Kubernetes client is not installed: {error}",
            fix="pip install 'splitwise[router]'",
        ) from error
    configuration = client.Configuration()
    try:
        if kubeconfig:
            await config.load_kube_config(kubeconfig, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        raise UserError(
            "environment",
            where=f"KUBECONFIG={kubeconfig}" if kubeconfig else "endpointSlices",
            wrong=f"no API server is known: {error}",
            fix="run in a pod that mounts a service account token, or set KUBECONFIG",
        ) from error
    api = client.ApiClient(configuration)
    discovery = client.DiscoveryV1Api(api)
    return KubernetesApi(api, discovery.list_namespaced_endpoint_slice_without_preload_content)


def _client_and_config() -> tuple[Any, Any]:
    """The library's two modules; whoever streams meanwhile shall not wait for their import."""
    from kubernetes.aio import client, config

    return client, config


async def _events(response: Any) -> AsyncIterator[Mapping[str, Any]]:
    """One event a line, until the server has no more to say."""
    while line := await response.content.readline():
        yield json.loads(line)


@contextmanager
def _translated() -> Iterator[None]:
    """Turns whatever the client raises into SlicesFailed."""
    import aiohttp  # the client's own

    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SlicesFailed("peer_lost", f"{type(error).__name__}: {error}") from error
    except ValueError as error:  # no JSON, or a line without end
        raise SlicesFailed("invalid", f"the API server talks nonsense: {error}") from error
