"""The certificates of this sidecar: read from a directory, and read again when they are replaced.

Whoever connects, in either direction, shows a certificate of the cluster's authority for the name
that all sidecars of the cluster share. New connections are made with the newest certificates that
work; those that are open go on as they are, so a renewal cuts nothing.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.tls import (
    CA_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    MAX_FILE_BYTES,
    Credentials,
    Files,
    Unusable,
    credentials,
    names_in,
)
from splitwise_sidecar.dial import DIAL_OPTIONS
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.refusal import Refused

log = logging.getLogger("splitwise.sidecar.tls")


class Tls:
    """`load` first; then everything else is of the newest files that worked."""

    def __init__(self, directory: Path, server_name: str, metrics: SidecarMetrics) -> None:
        self.server_name = server_name
        self._directory = directory
        self._metrics = metrics
        self._current: Credentials | None = None
        self._seen: Files | None = None
        self._refused = ""

    def load(self) -> None:
        """Reads the directory for the first time. Raises UserError when that does not work."""
        try:
            self._take(self._read())
        except Unusable as error:
            raise UserError(
                "certificate-unusable",
                where=f"--tls-dir {self._directory}",
                wrong=str(error),
                fix=f"put {CA_FILE}, {CERTIFICATE_FILE} and {KEY_FILE} there, for the name "
                f"{self.server_name}: from the Secret of spec.transfer.tls, or the operator's own",
            ) from error

    def look(self) -> None:
        """Takes the files of the directory if they are new and work; else all stays as it was."""
        try:
            files = self._read()
            if files != self._seen:
                self._seen = files
                self._take(files)
            elif files == self._now().files:
                self._refused = ""
        except Unusable as error:
            self._keep(str(error))

    def server_context(self) -> ssl.SSLContext:
        """For the next connection that is accepted: TLS 1.3, and a certificate is asked for."""
        return self._now().server

    def client_context(self) -> ssl.SSLContext:
        """For the next connection that is opened, with `server_hostname=server_name`.

        A peer that does not take our certificate says so only after the handshake: the first read
        fails.
        """
        return self._now().client

    def check_peer(self, connection: ssl.SSLObject) -> None:
        """Raises Refused(DENIED) unless who is at the other end has our name.

        A server has to ask after the handshake: that the authority has signed is not enough where
        it signs for others too.
        """
        names = names_in(connection.getpeercert() or {})
        if self.server_name not in names:
            raise Refused(kv_pb2.DENIED, f"a certificate for {names}, not {self.server_name}")

    def server_credentials(self, begun: Callable[[], None]) -> grpc.ServerCredentials:
        """For a gRPC server. `begun` is called at each handshake, by a thread of gRPC's."""
        told: Credentials | None = None

        def newest() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            begun()
            if told is self._current:
                return None
            told = self._current
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            newest,  # type: ignore[arg-type]  # None says that nothing has changed
            require_client_authentication=True,
        )

    def dial(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        """A channel to the peer at host:port, with the newest certificate."""
        files = self._now().files
        made = grpc.ssl_channel_credentials(files.ca, files.key, files.certificate)
        named = ("grpc.ssl_target_name_override", self.server_name)
        return grpc.aio.secure_channel(address, made, options=[*DIAL_OPTIONS, named, *options])

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        files = self._now().files
        return grpc.ssl_server_certificate_configuration(
            [(files.key, files.certificate)], root_certificates=files.ca
        )

    def _now(self) -> Credentials:
        assert self._current is not None, "load comes first"
        return self._current

    def _read(self) -> Files:
        return Files(*(self._file(name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE)))

    def _file(self, name: str) -> bytes:
        try:
            with (self._directory / name).open("rb") as file:
                return file.read(MAX_FILE_BYTES)
        except OSError as error:
            raise Unusable(f"{name} cannot be read: {error.strerror}") from error

    def _take(self, files: Files) -> None:
        self._current = credentials(files, self.server_name)
        self._seen, self._refused = files, ""
        self._metrics.certificate_taken(self._current.expires_s)
        fields = {"name": self.server_name, "expires_s": int(self._current.expires_s)}
        log.info("certificate taken", extra={"fields": fields})

    def _keep(self, why: str) -> None:
        """Counts and says once that what is in the directory now is of no use."""
        if why == self._refused:
            return
        self._refused = why
        self._metrics.certificate_refused()
        fields = {"directory": self._directory, "why": why}
        log.error("the new certificate is of no use: the old one stays", extra={"fields": fields})
