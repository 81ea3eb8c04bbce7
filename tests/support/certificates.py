"""Certificates in directories, as a kubelet or the process runner puts them there."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from splitwise_operator.certificates import CERTIFICATE_LIFE, renewed

NAME = "demo.default.kv.splitwise.dev"

Bundle = Mapping[str, bytes]


def bundle(name: str = NAME, by: Bundle | None = None, age: timedelta = timedelta(0)) -> Bundle:
    """A certificate of an age, by the authority of another bundle or one of its own."""
    authority = {key: (by or {})[key] for key in ("ca.crt", "ca.key")} if by else {}
    return renewed(authority, name, datetime.now(UTC) - age)


def expired(by: Bundle | None = None) -> Bundle:
    """As `bundle`, with a certificate that expired a day ago."""
    return bundle(by=by, age=CERTIFICATE_LIFE + timedelta(days=1))


def trusting_both(before: Bundle, age: timedelta = timedelta(0)) -> Bundle:
    """A new authority beside the old one, which has signed the certificate."""
    both = renewed(dict(before) | {"ca.key": b""}, NAME, datetime.now(UTC))
    leaf = bundle(by=before, age=age)
    return both | {"tls.crt": leaf["tls.crt"], "tls.key": leaf["tls.key"]}


def rolled(before: Bundle, age: timedelta = timedelta(0)) -> Bundle:
    """As `trusting_both`, with a certificate of the new authority."""
    both = renewed(dict(before) | {"ca.key": b""}, NAME, datetime.now(UTC))
    return renewed(both | {"tls.crt": b""}, NAME, datetime.now(UTC) - age)


def put(directory: Path, files: Bundle) -> Path:
    """Writes what a sidecar is given, each file in one step; the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("ca.crt", "tls.crt", "tls.key"):
        fresh = directory / f".{name}.new"
        fresh.write_bytes(files[name])
        fresh.replace(directory / name)
    return directory
