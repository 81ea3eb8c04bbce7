"""The small HTTP pages of a process without an HTTP framework: metrics, health, and its own."""

from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from splitwise_core.errors import UserError


class StatusServer:
    """Serves one process's metrics and health in a thread of its own.

    `not_ready()` returns why the process is not ready, or None when it is. `pages` are what it
    shows beyond that: by path, JSON, or None while there is nothing to show yet.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready: Callable[[], str | None],
        pages: Mapping[str, Callable[[], bytes | None]] = MappingProxyType({}),
    ) -> None:
        self._registry = registry
        self._not_ready = not_ready
        self._pages = pages
        self._server: ThreadingHTTPServer | None = None

    def start(self, host: str, port: int) -> int:
        """Starts to listen and returns the port. Raises UserError when the port is taken."""
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise UserError(
                "port-taken",
                where=f"{host}:{port}",
                wrong=f"the status page cannot listen there: {error.strerror}",
                fix="stop the process that listens there, or choose another port",
            ) from error
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="status", daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, accept: str = "") -> tuple[int, str, bytes]:
        """Status, content type and body for a GET of `path`; `accept` is the header's text."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return 200, content_type, encode(self._registry)
        if path == "/healthz":
            return 200, "text/plain", b"ok\n"
        if path == "/readyz":
            why = self._not_ready()
            return (503, "text/plain", f"{why}\n".encode()) if why else (200, "text/plain", b"ok\n")
        if (shown := self._pages.get(path)) is not None:
            body = shown()
            return (200, "application/json", body) if body else (503, "text/plain", b"not yet\n")
        known = ", ".join(("/metrics", "/healthz", "/readyz", *self._pages))
        return 404, "text/plain", f"try one of {known}\n".encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a client that stalls frees its thread

            def do_GET(self) -> None:
                path, accept = self.path.partition("?")[0], self.headers.get("Accept", "")
                status, content_type, body = page.answer(path, accept)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes and scrapes are no news."""

        return Handler
