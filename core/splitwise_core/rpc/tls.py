"""Certificates of both ends of a connection: taken only when they work, which is tried in memory.

No package beyond the standard library is needed to tell: a handshake of the pair with itself finds
a key of another certificate, an authority that did not sign it, another name, and an expiry.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CA_FILE: Final = "ca.crt"
CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
"""What cert-manager, and Secrets of type kubernetes.io/tls, call the three."""

MAX_FILE_BYTES: Final = 1 << 20
"""What a Secret holds at most."""

_FLIGHTS: Final = 8
"""Messages that each side of a handshake has its turn for; TLS 1.3 needs two."""


class Unusable(Exception):
    """Why three files are no credentials. Says nothing of what is in them."""


@dataclass(frozen=True, slots=True)
class Files:
    """PEM text of the trusted authorities, of the certificate with its chain, and of its key."""

    ca: bytes
    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files that work, and contexts made of them. `expires_s` is in seconds since 1970."""

    files: Files
    server: ssl.SSLContext
    client: ssl.SSLContext
    expires_s: float


def credentials(files: Files, name: str) -> Credentials:
    """The credentials for peers that are called `name`. Raises Unusable."""
    server, client = _context(files, is_server=True), _context(files, is_server=False)
    return Credentials(files, server, client, _shake_hands(server, client, name))


def names_in(certificate: Mapping[str, Any]) -> list[str]:
    """The DNS names of a certificate as `getpeercert` tells it."""
    return [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]


def _context(files: Files, *, is_server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    if is_server:
        made.num_tickets = 0  # whoever resumes a session is not asked for a certificate again
        made.set_alpn_protocols(["h2"])  # for who asks, which gRPC does
    try:
        made.load_verify_locations(cadata=files.ca.decode("ascii"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{CA_FILE} holds no certificate") from error
    try:
        _load_pair(made, files)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or "no certificate and key in PEM form"
        raise Unusable(f"{CERTIFICATE_FILE} and {KEY_FILE} are no pair: {why}") from error
    return made


def _load_pair(context: ssl.SSLContext, files: Files) -> None:
    """Python reads a pair from a file only: this one is in memory, and nobody else's."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(files.certificate + b"\n" + files.key)
        # An empty password: a key that needs one is refused, and no terminal is asked for it.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> float:
    """When the certificate expires, in seconds since 1970. Raises Unusable."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(_FLIGHTS):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
                seen = end.getpeercert()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise Unusable(f"{CERTIFICATE_FILE}: {error.verify_message}") from error
            except (ssl.SSLError, ValueError) as error:
                why = getattr(error, "reason", None) or error
                raise Unusable(f"{CERTIFICATE_FILE} is of no use: {why}") from error
        if not ends:
            assert seen is not None
            if name not in names_in(seen):  # a wildcard would be every service's
                raise Unusable(f"{CERTIFICATE_FILE} is not for the very name {name}")
            return float(ssl.cert_time_to_seconds(str(seen["notAfter"])))
    raise Unusable(f"{CERTIFICATE_FILE} is of no use: no handshake with itself ends")
