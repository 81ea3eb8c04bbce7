"""What a directory of certificates gives to plain sockets, and when a sidecar does not start."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_sidecar.config import parse
from splitwise_sidecar.main import main
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.tls import Tls
from tests.support.certificates import NAME, Bundle, bundle, expired, put


@pytest.fixture
def good() -> Bundle:
    return bundle()


def tls(directory: Path, name: str = NAME) -> Tls:
    made = Tls(directory, name, SidecarMetrics(Telemetry(Component.SIDECAR)))
    made.load()
    return made


def meet(server: Tls, client: ssl.SSLContext, name: str = NAME) -> tuple[str | None, str]:
    """The version that both agreed on, and why the server let nobody in ("" when it did)."""
    here, there = socket.socketpair()
    refused: list[str] = []

    def accept() -> None:
        try:
            with server.server_context().wrap_socket(here, server_side=True) as accepted:
                server.check_peer(accepted)
                accepted.sendall(b"in")
        except (OSError, Refused) as error:
            refused.append(str(error))

    thread = threading.Thread(target=accept)
    thread.start()
    version = None
    with contextlib.suppress(OSError), client.wrap_socket(there, server_hostname=name) as connected:
        version = connected.version() if connected.recv(2) == b"in" else None
    thread.join()
    return version, "".join(refused)


def test_contexts_of_two_sidecars_work_over_plain_sockets(tmp_path: Path, good: Bundle) -> None:
    one, other = (tls(put(tmp_path / name, good)) for name in "ab")
    assert meet(one, other.client_context()) == ("TLSv1.3", "")


def anonymous(good: Bundle) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=good["ca.crt"].decode())


def test_contexts_refuse_strangers(tmp_path: Path, good: Bundle) -> None:
    door = tls(put(tmp_path / "t", good))
    assert "CERTIFICATE" in meet(door, anonymous(good))[1]
    foreign = tls(put(tmp_path / "f", bundle())).client_context()
    foreign.load_verify_locations(cadata=good["ca.crt"].decode())
    assert "CERTIFICATE_VERIFY_FAILED" in meet(door, foreign)[1]
    other = tls(put(tmp_path / "o", bundle("other", by=good)), "other").client_context()
    assert "['other']" in meet(door, other)[1]


# ---- the start ----


def said_at_start(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    arguments = ["--socket", str(tmp_path / "kv.sock"), "--listen", "127.0.0.1:0"]
    arguments += ["--status", "127.0.0.1:0", "--role", "prompt", "--pool", "prompt", *more]
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "word"),
    [
        pytest.param(None, "ca.crt cannot be read", id="no files"),
        pytest.param(expired(), "certificate has expired", id="an expired certificate"),
        pytest.param(bundle("other"), "Hostname mismatch", id="another name"),
    ],
)
def test_without_a_certificate_that_works_it_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: Bundle | None, word: str
) -> None:
    at = put(tmp_path / "tls", files) if files else tmp_path / "nowhere"
    said = said_at_start(tmp_path, capsys, "--tls-dir", str(at), "--tls-name", NAME)
    assert word in said
    assert "spec.transfer.tls" in said
    assert NAME in said


def test_what_cannot_be_encrypted_is_not_sent_in_plaintext(
    tmp_path: Path, good: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--tls-dir", str(put(tmp_path / "tls", good)), "--tls-name", NAME)
    said = said_at_start(tmp_path, capsys, *at, "--transports", "nixl")
    assert "spec.transfer.tls.mode: Plaintext" in said


def test_a_directory_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--tls-dir=x", "--socket=s", "--listen=h:1", "--status=h:2", "--role=token"])
