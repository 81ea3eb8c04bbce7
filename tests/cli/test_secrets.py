"""The certificates and keys of a cluster on one machine: private, kept, and renewed in one step."""

import stat
from datetime import UTC, datetime
from pathlib import Path

from splitwise_cli.runner.secrets import keep
from splitwise_core.rpc.tls import Files, credentials
from splitwise_operator.certificates import CERTIFICATE_LIFE
from tests.operator.rendered import cluster

NOW = datetime.now(UTC)
NAME = "demo.default.kv.splitwise.dev"


def files(link: Path) -> Files:
    return Files(*((link / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key")))


def test_what_is_made_works_and_is_private(tmp_path: Path) -> None:
    link = tmp_path / "kv"
    assert keep(link, cluster(), NOW)
    credentials(files(link), NAME)
    assert len(bytes.fromhex((link / "capability.key").read_text())) == 32
    assert stat.S_IMODE(link.resolve().stat().st_mode) == 0o700
    for file in link.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_start_finds_the_same(tmp_path: Path) -> None:
    link = tmp_path / "kv"
    keep(link, cluster(), NOW)
    before = {file.name: file.read_bytes() for file in link.iterdir()}
    assert not keep(link, cluster(), NOW)
    assert {file.name: file.read_bytes() for file in link.iterdir()} == before


def test_a_renewal_leaves_one_directory_and_the_keys_of_requests_as_they_are(
    tmp_path: Path,
) -> None:
    link = tmp_path / "kv"
    keep(link, cluster(), NOW - 0.7 * CERTIFICATE_LIFE)
    before = files(link)
    key = (link / "capability.key").read_bytes()
    assert keep(link, cluster(), NOW)
    after = files(link)
    assert after.ca == before.ca
    assert after.certificate != before.certificate
    credentials(after, NAME)
    assert (link / "capability.key").read_bytes() == key
    assert len(list(tmp_path.iterdir())) == 2, "the link and what it leads to"


def test_plaintext_needs_no_certificates(tmp_path: Path) -> None:
    link = tmp_path / "kv"
    keep(link, cluster(), NOW)
    assert keep(link, cluster(transfer={"tls": {"mode": "Plaintext"}}), NOW)
    assert [file.name for file in link.iterdir()] == ["capability.key"]
