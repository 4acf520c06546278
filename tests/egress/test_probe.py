"""What a look at the way to an upstream finds, with real servers at its end and in between."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from proxy.egress.certificates import certificate
from proxy.egress.probe import Ask, Report, Seen, probe
from proxy.model import Timeouts
from proxy.secret import Secret
from tests.egress.authority import Authority, signed_by_itself
from tests.egress.proxies import tunnel
from tests.egress.servers import LIMITS, Server, ok, says, serving, silent, upstream_at
from tests.ports import free_port

KEY: Final = "sk-hunter2hunter2"
MODELS: Final = Ask("/models", {"authorization": f"Bearer {KEY}"}, credential=True)
QUICK: Final = Timeouts(connect=0.5, first_byte=0.5, idle=0.5, total=5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[Server]:
    with serving(says(ok(b'{"data":[]}'), then_close=False), authority.context()) as server:
        yield server


def look(port: int, ask: Ask | None = None, /, **changes: object) -> Report:
    settings = {"base_url": f"https://localhost:{port}/v1"} | changes
    report = probe(upstream_at(port, **settings), LIMITS, ask=ask)
    assert b"hunter2" not in msgspec.json.encode(report)
    return report


def failed(report: Report) -> tuple[str, str, str]:
    """Step, detail and remedy."""
    assert report.trouble is not None
    return report.trouble.step, report.trouble.detail, report.trouble.remedy


def test_an_upstream_that_is_well_is_described(authority: Authority, secure: Server) -> None:
    report = look(secure.port, ca_bundle=authority.bundle)
    address = f"127.0.0.1:{secure.port}"
    assert report.trouble is None
    assert (report.target, report.proxy) == (f"https://localhost:{secure.port}", None)
    assert Seen(address) in report.addresses
    assert report.address == address
    assert report.tls is not None
    assert (report.tls.version, report.tls.verified) == ("TLSv1.3", True)
    assert (report.tls.authorities, report.tls.client_certificate) == (authority.bundle, "none")
    shown = report.tls.certificate
    assert shown is not None
    assert "Test Authority" in shown.issuer
    assert (shown.names, shown.days_left) == (("localhost",), 100)


def test_nothing_is_sent_by_a_look_alone(authority: Authority, secure: Server) -> None:
    look(secure.port, ca_bundle=authority.bundle)
    assert secure.gone.acquire(timeout=5)
    assert (secure.connections, secure.requests) == (1, [])


def test_a_look_sends_one_request_when_it_is_asked_to(authority: Authority, secure: Server) -> None:
    report = look(secure.port, MODELS, ca_bundle=authority.bundle)
    assert (report.status, report.trouble) == (200, None)
    (request,) = secure.requests
    assert request.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization: Bearer " + KEY.encode() in request


def test_plain_http_has_no_tls_to_tell_of() -> None:
    with serving(says(ok(b"{}"))) as server:
        report = look(server.port, MODELS, base_url=f"http://127.0.0.1:{server.port}/v1")
    assert (report.tls, report.status, report.trouble) == (None, 200, None)


@pytest.mark.parametrize(
    ("status", "ask", "said", "remedy"),
    [
        ("401 x", MODELS, "401: the credential was refused", "Look whether the key is current"),
        ("403 x", MODELS, "403: the credential was refused", "may list models"),
        ("401 x", Ask("/models", {}, credential=False), "asks for a credential", "Set credential"),
        ("404 x", MODELS, "there is no /models below the base URL", "most end with /v1"),
        ("429 x", MODELS, "used up its rate", "limits of this key"),
        ("503 x", MODELS, "answered 503", "status page"),
        ("302 x\r\nLocation: /", MODELS, "answered 302", "write that as base_url"),
    ],
)
def test_an_answer_that_is_a_refusal_says_what_is_wrong(
    status: str, ask: Ask, said: str, remedy: str
) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\nhunter2".encode()
    with serving(says(answer)) as server:
        report = look(server.port, ask, base_url=f"http://127.0.0.1:{server.port}/v1")
    step, detail, told = failed(report)
    assert step == "call"
    assert said in detail
    assert remedy in told


def test_a_silent_upstream_fails_at_the_call() -> None:
    with serving(silent) as server:
        upstream = upstream_at(server.port)
        report = probe(upstream, LIMITS, ask=MODELS, timeouts=QUICK)
    step, _, remedy = failed(report)
    assert (step, "timeouts.first_byte" in remedy) == ("call", True)


def test_a_key_that_no_header_can_hold_is_not_sent() -> None:
    with serving(says(ok(b"{}"))) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        report = look(server.port, Ask("/models", {"x-key": "hunter2\n"}, True), base_url=url)
        assert (failed(report)[0], server.requests) == ("call", [])


def test_what_cannot_be_configured_is_told_and_not_raised() -> None:
    step, detail, _ = failed(look(1, base_url="https://u:hunter2@localhost"))
    assert (step, "no user name or password" in detail) == ("configuration", True)


def test_a_name_that_nobody_knows_fails_at_its_resolution() -> None:
    report = look(1, base_url="https://nobody.invalid/v1")
    step, detail, remedy = failed(report)
    assert (step, report.addresses, report.address) == ("resolve", (), None)
    assert "'nobody.invalid'" in detail
    assert "outbound_proxy" in remedy


def test_addresses_that_are_refused_are_listed_with_the_reason(secure: Server) -> None:
    report = look(secure.port, allow_private=False)
    step, _, remedy = failed(report)
    assert (step, secure.connections) == ("resolve", 0)
    assert report.addresses
    assert all("not a public address" in (seen.refused or "") for seen in report.addresses)
    assert "allow_private = true" in remedy


def test_a_metadata_address_has_no_way_to_be_allowed() -> None:
    step, _, remedy = failed(look(1, base_url="https://169.254.169.254/v1"))
    assert (step, "No setting" in remedy) == ("resolve", True)


def test_nobody_listening_fails_at_the_connection() -> None:
    step, detail, _ = failed(look(free_port()))
    assert (step, "Connection refused" in detail) == ("connect", True)


def test_the_timeouts_of_a_look_hold_instead_of_the_upstreams() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        upstream = upstream_at(
            0,
            base_url=f"https://localhost:{held.getsockname()[1]}",
            timeouts=Timeouts(connect=3600),
        )
        step, detail, _ = failed(probe(upstream, LIMITS, timeouts=QUICK))
    assert (step, "the TLS handshake" in detail) == ("connect", True)


# -- certificates --------------------------------------------------------------------------------


def test_an_issuer_that_nobody_knows_is_named_together_with_ca_bundle(secure: Server) -> None:
    report = look(secure.port)
    step, _, remedy = failed(report)
    assert step == "tls"
    assert 'ca_bundle = "' in remedy
    assert report.tls is not None
    assert (report.tls.verified, report.tls.authorities) == (False, "certifi")
    assert report.tls.certificate is not None
    assert "Test Authority" in report.tls.certificate.issuer
    assert secure.requests == []


def test_a_certificate_for_other_hosts_is_shown_with_their_names(authority: Authority) -> None:
    with serving(silent, authority.context("other.example", "more.example")) as server:
        report = look(server.port, ca_bundle=authority.bundle)
    step, _, remedy = failed(report)
    assert (step, "base_url" in remedy) == ("tls", True)
    assert report.tls is not None
    assert report.tls.certificate is not None
    assert report.tls.certificate.names == ("other.example", "more.example")


def test_a_certificate_that_has_expired_is_shown_with_its_age(authority: Authority) -> None:
    with serving(silent, authority.context(days=-3)) as server:
        report = look(server.port, ca_bundle=authority.bundle)
    step, detail, remedy = failed(report)
    assert (step, "has expired" in detail, "renewed" in remedy) == ("tls", True, True)
    assert report.tls is not None
    assert report.tls.certificate is not None
    assert report.tls.certificate.days_left == -3


def test_a_certificate_to_come_leads_to_the_clock(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begins = datetime.now(UTC) + timedelta(days=2)
    mine = authority.ca.issue_cert("localhost", not_before=begins)
    mine.configure_cert(context)
    with serving(silent, context) as server:
        _, detail, remedy = failed(look(server.port, ca_bundle=authority.bundle))
    assert ("not yet valid" in detail, "clock" in remedy) == (True, True)


def test_plain_http_behind_https_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            for _ in range(2):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(4096)
                    sock.sendall(b"HTTP/1.1 400 hunter2\r\n\r\n")

        threading.Thread(target=speak, daemon=True).start()
        step, detail, remedy = failed(look(listener.getsockname()[1]))
    assert (step, "does not speak TLS" in detail) == ("tls", True)
    assert "scheme and port" in remedy


@pytest.mark.parametrize("older", [False, True], ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_certificate_is_shown_where_it_is_asked_for(
    authority: Authority, older: bool
) -> None:
    shown = authority.client()
    with serving(silent, authority.mutual(older=older)) as server:
        report = look(server.port, ca_bundle=authority.bundle, **shown)
    assert report.trouble is None
    assert report.tls is not None
    assert report.tls.client_certificate == "shown"


def test_a_client_certificate_that_nobody_asked_for_is_told(
    authority: Authority, secure: Server
) -> None:
    report = look(secure.port, ca_bundle=authority.bundle, **authority.client())
    assert report.tls is not None
    assert report.tls.client_certificate == "not asked for"


@pytest.mark.parametrize("older", [False, True], ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_certificate_that_is_missing_is_told(authority: Authority, older: bool) -> None:
    with serving(silent, authority.mutual(older=older)) as server:
        report = look(server.port, ca_bundle=authority.bundle)
    step, _, remedy = failed(report)
    assert (step, "client_cert and client_key" in remedy) == ("tls", True)
    assert report.tls is not None
    assert report.tls.client_certificate == "asked for, none configured"
    assert (report.tls.verified, report.tls.certificate is None) == (not older, older)


def test_a_client_certificate_that_is_refused_is_told(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with serving(silent, authority.mutual()) as server:
        report = look(server.port, ca_bundle=authority.bundle, **stranger.client())
    step, detail, _ = failed(report)
    assert (step, "refused the client certificate" in detail) == ("tls", True)


def test_what_is_no_certificate_is_none() -> None:
    assert certificate(b"nonsense") is None
    assert certificate(None) is None


def test_a_strangers_certificate_cannot_speak_to_the_terminal() -> None:
    found = certificate(signed_by_itself("a\x1b[2Jb\u202e" + "x" * 500))
    assert found is not None
    assert found.subject.isprintable()
    assert len(found.subject) <= 120


# -- through a proxy -----------------------------------------------------------------------------


def test_the_way_through_a_proxy_names_it_without_its_credentials(
    authority: Authority, secure: Server
) -> None:
    with serving(tunnel("outgate", "hunter2")) as proxy:
        outbound = Secret(f"http://outgate:hunter2@localhost:{proxy.port}")
        report = look(secure.port, MODELS, ca_bundle=authority.bundle, outbound_proxy=outbound)
    assert (report.trouble, report.status) == (None, 200)
    assert report.proxy == f"localhost:{proxy.port}"
    assert report.address == f"127.0.0.1:{proxy.port}"
    assert report.tls is not None
    assert report.tls.verified


@pytest.mark.parametrize(
    ("credentials", "said", "remedy"),
    [
        ("", "asks for credentials", "Write outbound_proxy as"),
        ("outgate:hunter2@", "refused the credentials", "Look at user and password"),
    ],
)
def test_a_proxy_that_refuses_fails_at_the_connection(
    credentials: str, said: str, remedy: str
) -> None:
    with serving(tunnel("outgate", "right")) as proxy:
        outbound = Secret(f"http://{credentials}localhost:{proxy.port}")
        report = look(1, base_url="https://upstream.test/v1", outbound_proxy=outbound)
    step, detail, told = failed(report)
    assert step == "connect"
    assert said in detail
    assert remedy in told


def test_a_proxy_that_opens_tls_is_found_out_by_its_issuer(secure: Server) -> None:
    # It answers for the upstream with a certificate of its own: what companies do to read along.
    with serving(tunnel()) as proxy:
        report = look(secure.port, outbound_proxy=Secret(f"http://localhost:{proxy.port}"))
    assert "a proxy that opens TLS on the way" in failed(report)[2]
    assert report.tls is not None
    assert report.tls.certificate is not None
    assert "Test Authority" in report.tls.certificate.issuer
