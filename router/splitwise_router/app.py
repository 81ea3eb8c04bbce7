"""The router's doors: two that generate, and the small ones around them."""

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from splitwise_core.metrics.router import PROMPT_SPEED, WORKER_SESSIONS
from splitwise_core.policy.roles import ROLES
from splitwise_core.telemetry import Telemetry
from splitwise_router.api.errors import ApiError
from splitwise_router.exchange import Exchange
from splitwise_router.fleet import Fleet
from splitwise_router.overview import Overview
from splitwise_router.page import HEADERS, page
from splitwise_router.pool_links import LinkMetrics, by_pools
from splitwise_router.service import Service
from splitwise_router.views import duties


class App:
    """The ASGI application. `draining` makes /readyz say so, for the time until it stops."""

    def __init__(
        self,
        service: Service,
        fleet: Fleet,
        telemetry: Telemetry,
        waiting: Callable[[], Mapping[str, int]],
        overview: Overview,
        status_page: bool = False,
    ) -> None:
        self.draining = False
        self._waiting = waiting
        self._overview = overview
        self._fleet = fleet
        self._service = service
        self._telemetry = telemetry
        self._pools: set[tuple[str, str]] = set()
        self._links = LinkMetrics(telemetry)
        self._generate = {
            "/v1/chat/completions": service.chat,
            "/v1/completions": service.completions,
        }
        self._pages = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/models/{model:path}", self._model),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/transfer", self._transfer),
                Route("/queue", self._queue),
                Route("/workers", self._workers),
                Route("/load", self._load),
                *([Route("/status", _status)] if status_page else ()),
                *(Route(path, _never, methods=["POST"]) for path in self._generate),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        self._pages.router.redirect_slashes = (
            False  # a POST that is redirected loses its error form
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generation goes past Starlette: its layers would cost every token two calls."""
        generate = self._generate.get(scope.get("path", "")) if scope["type"] == "http" else None
        if generate is not None and scope["method"] == "POST":
            await generate(Exchange(scope, receive, send, is_last=self.draining))
        else:
            await self._pages(scope, receive, send)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._service.model_card()]})

    async def _model(self, request: Request) -> Response:
        try:
            self._service.check_model(request.path_params["model"])
        except ApiError as error:
            return JSONResponse(error.body(), error.status)
        return JSONResponse(self._service.model_card())

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        why = "the router is draining" if self.draining else self._fleet.why_shut()
        return PlainTextResponse(f"{why}\n", 503) if why else PlainTextResponse("ok\n")

    async def _metrics(self, request: Request) -> Response:
        opened = dict.fromkeys(self._pools, 0)  # a pool without workers falls to 0
        for session in self._fleet.sessions:
            key = (session.endpoint.role, session.endpoint.pool)
            opened[key] = opened.get(key, 0) + (session.info is not None)
        self._pools = set(opened)
        for (role, pool), count in opened.items():
            if role in ROLES:
                self._telemetry.gauge(WORKER_SESSIONS, role=role, pool=pool).set(count)
                self._telemetry.gauge(PROMPT_SPEED, role=role, pool=pool).set(self._speed(pool))
        links = self._fleet.links
        self._links.show(by_pools(self._fleet.sessions, links), links.cut_off)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._telemetry.registry), media_type=content_type)

    def _speed(self, pool: str) -> float:
        """Prompt tokens a second of a worker of the pool."""
        told = [s.load.prompt_tokens_per_s for s in self._fleet.sessions if s.endpoint.pool == pool]
        known = [speed for speed in told if speed > 0]
        return sum(known) / len(known) if known else 0.0

    async def _transfer(self, request: Request) -> Response:
        """Measured links by pairs of pools, for the operator and for people."""
        found = by_pools(self._fleet.sessions, self._fleet.links)
        return JSONResponse({"transfer": [pair.entry() for pair in found if pair.links]})

    async def _queue(self, request: Request) -> Response:
        """What waits here for workers, for the operator."""
        return JSONResponse(self._waiting())

    async def _workers(self, request: Request) -> Response:
        """Which part each worker plays, for people."""
        return JSONResponse({"workers": duties(self._fleet.sessions)})

    async def _load(self, request: Request) -> Response:
        """Load and times, for `splitwise top` and the status page."""
        body = self._overview.body()
        return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


async def _status(request: Request) -> Response:
    """The status page; what it shows it reads from /load."""
    return Response(page(), media_type="text/html", headers=HEADERS)


async def _never(request: Request) -> Response:
    """Stands in Starlette's table so that it answers other methods with 405; see App.__call__."""
    raise AssertionError("generation does not go through Starlette")


async def _http_error(request: Request, error: Any) -> Response:
    """Unknown paths and wrong methods, in OpenAI's form."""
    asked = f"{request.method} {request.url.path}"
    fixes = {
        404: f"{asked} is not known here. Generation is POST /v1/chat/completions or "
        "/v1/completions; there are GET /v1/models, /healthz, /readyz, /metrics, /transfer, "
        "/queue, /workers and /load too.",
        405: f"{asked} is not allowed. Use {(error.headers or {}).get('Allow', 'another method')}.",
    }
    codes = {404: "unknown_url", 405: "method_not_allowed"}
    body = ApiError(
        error.status_code,
        fixes.get(error.status_code, str(error.detail)),
        code=codes.get(error.status_code),
    ).body()
    return JSONResponse(body, error.status_code, headers=error.headers)
