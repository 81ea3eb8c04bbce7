"""A cluster's own certificates: an authority, and one certificate for all of its sidecars.

Pure but for the keys, which are drawn at random: files and the time in, files out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from splitwise_core.rpc.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from splitwise_operator.kv_secret import CA_KEY_FILE

AUTHORITY_LIFE: Final = timedelta(days=3650)
CERTIFICATE_LIFE: Final = timedelta(days=90)
RENEWED_AFTER: Final = 2 / 3
"""The part of its life after which either is replaced."""
CLOCKS_DIFFER: Final = timedelta(minutes=5)

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: _Key


def renewed(found: Mapping[str, bytes], name: str, now: datetime) -> dict[str, bytes]:
    """The four files for peers called `name`; those `found` that are still good are kept.

    A new authority never signs at once where the old one can: its certificate is first trusted
    beside the old one, and signs when the next renewal is due, by when every sidecar knows it.
    """
    trusted = [
        own for own in _certificates(found.get(CA_FILE, b"")) if own.not_valid_after_utc > now
    ]
    before = _authority(found.get(CA_KEY_FILE, b""), trusted)
    is_rolled = before is None or _is_due(before.certificate, now)
    authority = _new_authority(now) if before is None or is_rolled else before
    if is_rolled:
        trusted = [authority.certificate, *trusted]
    files = {
        CA_FILE: b"".join(_pem(own) for own in trusted),
        CERTIFICATE_FILE: found.get(CERTIFICATE_FILE, b""),
        KEY_FILE: found.get(KEY_FILE, b""),
        CA_KEY_FILE: _key_pem(authority.key),
    }
    must_last = is_rolled and before is not None
    if must_last or not _is_good(files, name, now):
        files |= _new_certificate(before or authority, name, now)
    return files


def _is_good(files: Mapping[str, bytes], name: str, now: datetime) -> bool:
    """Whether the certificate is of its key, of a trusted authority, for `name`, and not due."""
    own = next(iter(_certificates(files[CERTIFICATE_FILE])), None)
    if own is None or _is_due(own, now) or name not in _names(own):
        return False
    key = _key(files[KEY_FILE])
    is_pair = key is not None and key.public_key() == own.public_key()
    return is_pair and any(_signed(by, own) for by in _certificates(files[CA_FILE]))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begins + RENEWED_AFTER * (ends - begins)


def _authority(pem: bytes, trusted: Iterable[x509.Certificate]) -> _Authority | None:
    """The authority that the key is of, if it is trusted; None when there is no such key."""
    key = _key(pem)
    if key is None:
        return None
    certificate = next((own for own in trusted if own.public_key() == key.public_key()), None)
    return None if certificate is None else _Authority(certificate, key)


def _key(pem: bytes) -> _Key | None:
    try:
        loaded = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return None
    return loaded if isinstance(loaded, ec.EllipticCurvePrivateKey) else None


def _new_authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Authorities that are trusted side by side have to differ in name.
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Splitwise KV {serial:x}"[:64])])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(title, title, key, now, AUTHORITY_LIFE)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _Authority(builder.sign(key, hashes.SHA256()), key)


def _new_certificate(authority: _Authority, name: str, now: datetime) -> dict[str, bytes]:
    """A certificate for both ends of a connection, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(x509.Name([]), authority.certificate.subject, key, now, CERTIFICATE_LIFE)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(by, critical=False)
    )
    made = builder.sign(authority.key, hashes.SHA256())
    return {CERTIFICATE_FILE: _pem(made), KEY_FILE: _key_pem(key)}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + life)
    )


def _certificates(pem: bytes) -> list[x509.Certificate]:
    """All in a file; none when it is damaged."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
