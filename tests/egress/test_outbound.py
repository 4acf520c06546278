"""The way out through a company's proxy, with its authority and its client certificates, as calls take it."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from proxy.egress import Egress, Handle
from proxy.egress.outbound import parse
from proxy.errors import ConfigError, UpstreamError
from proxy.model import Timeouts
from proxy.secret import Secret
from tests.egress.authority import Authority
from tests.egress.proxies import tunnel
from tests.egress.servers import (
    LIMITS,
    Script,
    Server,
    ok,
    read_request,
    says,
    serving,
    silent,
    upstream_at,
)
from tests.gateway import COMPLETION, gateway
from tests.ports import free_address

FINE: Final = ok(b"{}")
QUICK: Final = Timeouts(connect=0.5, first_byte=10, idle=10, total=30)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def send(port: int, **changes: object) -> tuple[int, bytes]:
    settings = {"base_url": f"https://localhost:{port}/v1"} | changes
    upstream = upstream_at(port, **settings)
    egress = Egress([upstream], LIMITS)
    try:
        reply = egress.send(upstream, "POST", "/completions", b"{}", {}, Handle())
        return reply.status, reply.read(100)
    finally:
        egress.close()


def failure(port: int, **changes: object) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        send(port, **changes)
    assert "hunter2" not in str(caught.value)
    return caught.value


def by(proxy: Server, credentials: str = "") -> Secret:
    return Secret(f"http://{credentials}localhost:{proxy.port}")


def test_proxy_with_credentials_tls_and_client_certificate_work_together(
    authority: Authority,
) -> None:
    with (
        serving(says(FINE), authority.mutual()) as server,
        serving(tunnel("outgate", "p@ss:wörd")) as proxy,
    ):
        outbound = by(proxy, "outgate:p%40ss%3Aw%C3%B6rd@")
        shown = authority.client()
        found = send(server.port, ca_bundle=authority.bundle, outbound_proxy=outbound, **shown)
        assert found == (200, b"{}")
        (asked,) = proxy.requests
        head = b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n"
        assert asked.startswith(head % (server.port, server.port))
        assert b"Proxy-Authorization" not in server.requests[0]


def test_a_tunnel_is_used_again(authority: Authority) -> None:
    with (
        serving(says(FINE, then_close=False), authority.context()) as server,
        serving(tunnel()) as proxy,
    ):
        upstream = upstream_at(
            0,
            base_url=f"https://localhost:{server.port}",
            ca_bundle=authority.bundle,
            outbound_proxy=by(proxy),
        )
        egress = Egress([upstream], LIMITS)
        egress.send(upstream, "GET", "/models", None, {}, Handle()).read(9)
        assert egress.send(upstream, "GET", "/models", None, {}, Handle()).reused
        assert (len(proxy.requests), len(server.requests)) == (1, 2)
        egress.close()


@pytest.mark.parametrize(
    ("credentials", "said"),
    [("", "has none"), ("outgate:hunter2@", "refused the credentials")],
    ids=["none", "wrong"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_other_credentials_is_told_from_an_upstream(
    scheme: str, credentials: str, said: str
) -> None:
    with serving(tunnel("outgate", "right")) as proxy:
        error = failure(
            0, base_url=f"{scheme}://upstream.test/v1", outbound_proxy=by(proxy, credentials)
        )
        assert (error.kind, len(proxy.requests)) == ("connect", 1)
        assert "407" in error.detail
        assert said in error.detail


def test_a_plain_request_shows_the_proxy_its_credentials() -> None:
    with serving(tunnel("outgate", "right")) as proxy:
        url = "http://upstream.test/v1"
        found = send(0, base_url=url, outbound_proxy=by(proxy, "outgate:right@"))
        assert found == (200, b"by proxy")
        assert proxy.requests[0].startswith(
            b"POST http://upstream.test/v1/completions HTTP/1.1\r\n"
        )


def test_the_proxy_is_named_by_an_ipv6_address_in_brackets() -> None:
    with serving(tunnel(), family=socket.AF_INET6) as proxy:
        outbound = Secret(f"http://[::1]:{proxy.port}")
        found = send(0, base_url="http://upstream.test/v1", outbound_proxy=outbound)
        assert found == (200, b"by proxy")


def test_an_ipv6_upstream_is_named_to_the_proxy_in_brackets() -> None:
    with serving(says(b"HTTP/1.1 502 no\r\n\r\n")) as proxy:
        error = failure(0, base_url="https://[2606:4700::1]/v1", outbound_proxy=by(proxy))
        assert proxy.requests[0].startswith(b"CONNECT [2606:4700::1]:443 HTTP/1.1\r\n")
        assert "could not reach [2606:4700::1]:443 (502)" in error.detail


ANSWERS: Final[dict[str, tuple[bytes, str]]] = {
    "forbidden": (b"HTTP/1.1 403 hunter2\r\n\r\n", "does not allow the way to upstream.test:443"),
    "unreachable": (b"HTTP/1.0 504 hunter2\r\n\r\n", "could not reach upstream.test:443 (504)"),
    "redirect": (b"HTTP/1.1 302 hunter2\r\n\r\n", "refused CONNECT"),
    "garbage": (b"\0\1\2hunter2\r\n\r\n", "not HTTP/1.1"),
    "garbage without an end": (b"hunter2" * 20_000, "more than 64 KiB"),
    "SSH": (b"SSH-2.0-hunter2\r\n", "not HTTP/1.1"),
    "nothing": (b"", "closed the connection"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX-A: hunter2\r\n", "closed the connection"),
    "huge": (b"HTTP/1.1 200 OK\r\n" + b"X-A: hunter2\r\n" * 10_000, "more than 64 KiB"),
    "more than asked": (b"HTTP/1.1 200 OK\r\n\r\nhunter2", "more than its answer"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n", "refused CONNECT"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_proxy_that_opens_no_tunnel_is_a_connect_error_that_says_why(name: str) -> None:
    answer, said = ANSWERS[name]
    with serving(says(answer)) as proxy:
        error = failure(0, base_url="https://upstream.test/v1", outbound_proxy=by(proxy))
    assert error.kind == "connect"
    assert error.detail.startswith("the outbound proxy ")
    assert said in error.detail


def test_the_answer_of_a_proxy_may_come_byte_by_byte(authority: Authority) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(answer)):
            sock.sendall(answer[at : at + 1])
        context = authority.context("upstream.test")
        with context.wrap_socket(sock, server_side=True) as inner:
            read_request(inner)
            inner.sendall(FINE)
        raise ConnectionAbortedError

    answer = b"HTTP/1.1 201 Fine\r\nContent-Length: 99\r\nVia: x\r\n\r\n"
    with serving(script) as proxy:
        way = {"ca_bundle": authority.bundle, "outbound_proxy": by(proxy)}
        assert send(0, base_url="https://upstream.test/v1", **way) == (200, b"{}")


def test_a_huge_refusal_is_not_read() -> None:
    with serving(says(b"HTTP/1.1 407 x\r\n" + b"X-A: 1\r\n" * 1_000_000)) as proxy:
        error = failure(0, base_url="https://upstream.test/v1", outbound_proxy=by(proxy))
    assert "407" in error.detail


def trickling(sock: socket.socket, _: bytes) -> None:
    """Keeps each read short of its timeout, for as long as anybody listens."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    gone = threading.Event()
    while not gone.wait(0.05):
        sock.sendall(b"X-A: 1\r\n")


@pytest.mark.parametrize("script", [silent, trickling], ids=["hangs", "trickles"])
def test_a_proxy_that_hangs_takes_no_longer_than_the_connect_timeout(script: Script) -> None:
    with serving(script) as proxy:
        error = failure(
            0, base_url="https://upstream.test/v1", outbound_proxy=by(proxy), timeouts=QUICK
        )
    assert error.kind == "timeout_connect"
    assert "the outbound proxy did not answer CONNECT" in error.detail


def test_a_proxy_that_does_not_run_is_named() -> None:
    outbound = Secret(f"http://{free_address()}")
    error = failure(0, base_url="https://upstream.test/v1", outbound_proxy=outbound)
    assert error.kind == "connect"
    assert error.detail == "the connection to the outbound proxy failed: Connection refused"


def test_a_proxy_whose_name_nobody_knows_is_a_resolve_error() -> None:
    outbound = Secret("http://proxy.invalid:3128")
    error = failure(0, base_url="https://upstream.test/v1", outbound_proxy=outbound)
    assert (error.kind, "'proxy.invalid'" in error.detail) == ("resolve", True)


def test_a_cancel_ends_the_wait_for_a_proxy() -> None:
    with serving(silent) as proxy:
        upstream = upstream_at(
            0,
            base_url="https://upstream.test/v1",
            outbound_proxy=by(proxy),
            timeouts=Timeouts(connect=60),
        )
        handle = Handle()
        threading.Timer(1.0, handle.cancel, ["client_gone"]).start()
        with pytest.raises(UpstreamError, match="client_gone"):
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, handle)
        assert proxy.gone.acquire(timeout=5)


def test_a_handshake_that_hangs_behind_a_proxy_is_told_as_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, serving(tunnel()) as proxy:
        port = held.getsockname()[1]
        error = failure(port, outbound_proxy=by(proxy), timeouts=QUICK)
    assert error.kind == "timeout_connect"
    assert "TLS handshake" in error.detail


@pytest.mark.parametrize(
    "url",
    [
        "socks5://h:1",
        "https://h:1",
        "h:1",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_what_is_not_an_http_proxy_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=r"http://\[user:password@\]host:port"):
        parse(Secret(url))


@pytest.mark.parametrize(
    ("url", "text", "credentials"),
    [
        ("http://proxy.corp", "proxy.corp:80", None),
        ("http://PROXY.corp:3128/", "proxy.corp:3128", None),
        ("http://u@h:1", "h:1", "Basic dTo="),
        ("http://u:p@q@h:1", "h:1", "Basic dTpwQHE="),
        ("http://u:%E2%82%AC@h:1", "h:1", "Basic dTrigqw="),
    ],
)
def test_a_proxy_in_parts(url: str, text: str, credentials: str | None) -> None:
    found = parse(Secret(url))
    assert (found.text, found.headers.get("Proxy-Authorization")) == (text, credentials)


# -- certificates --------------------------------------------------------------------------------


@contextlib.contextmanager
def secure(context: ssl.SSLContext, *, proxied: bool) -> Iterator[tuple[int, dict[str, object]]]:
    """A TLS upstream's port, and the settings that lead to it: straight, or through a proxy."""
    with serving(says(FINE), context) as server, serving(tunnel()) as proxy:
        yield server.port, {"outbound_proxy": by(proxy)} if proxied else {}


WAYS: Final = pytest.mark.parametrize("proxied", [False, True], ids=["straight", "proxy"])


@WAYS
def test_an_expired_certificate_is_named(authority: Authority, proxied: bool) -> None:
    with secure(authority.context(days=-3), proxied=proxied) as (port, way):
        error = failure(port, ca_bundle=authority.bundle, **way)
    assert error.kind == "tls"
    assert "certificate has expired" in error.detail


@WAYS
def test_a_certificate_for_another_host_is_named(authority: Authority, proxied: bool) -> None:
    with secure(authority.context("other.example"), proxied=proxied) as (port, way):
        error = failure(port, ca_bundle=authority.bundle, **way)
    assert error.kind == "tls"
    assert "not valid for 'localhost' (see base_url)" in error.detail


@WAYS
def test_an_unknown_issuer_leads_to_ca_bundle(authority: Authority, proxied: bool) -> None:
    with secure(authority.context(), proxied=proxied) as (port, way):
        error = failure(port, **way)
    assert error.kind == "tls"
    assert error.detail.endswith("nobody who is trusted has issued it (see ca_bundle)")


@WAYS
@pytest.mark.parametrize("older", [False, True], ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_certificate_that_is_missing_is_a_tls_error(
    authority: Authority, older: bool, proxied: bool
) -> None:
    with secure(authority.mutual(older=older), proxied=proxied) as (port, way):
        error = failure(port, ca_bundle=authority.bundle, **way)
    assert error.kind == "tls", error.detail
    assert ("see client_cert" in error.detail) or older


def test_a_client_certificate_of_a_stranger_is_a_tls_error(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    with secure(authority.mutual(), proxied=False) as (port, _):
        error = failure(port, ca_bundle=authority.bundle, **stranger.client("stranger"))
    assert error.kind == "tls", error.detail
    assert "refused the client certificate (see client_cert)" in error.detail


def test_a_large_request_is_told_of_a_missing_client_certificate_too(authority: Authority) -> None:
    with serving(says(FINE), authority.mutual()) as server:
        upstream = upstream_at(
            0, base_url=f"https://localhost:{server.port}", ca_bundle=authority.bundle
        )
        with pytest.raises(UpstreamError) as caught:
            Egress([upstream], LIMITS).send(
                upstream, "POST", "/completions", b"x" * 4_000_000, {}, Handle()
            )
    assert (caught.value.kind, caught.value.bytes_received) == ("tls", False)


def test_the_key_of_another_certificate_stops_the_start(authority: Authority) -> None:
    one, two = authority.client("one"), authority.client("two")
    with pytest.raises(ConfigError, match="client_key is the key of another certificate"):
        send(1, client_cert=one["client_cert"], client_key=two["client_key"])


@pytest.mark.parametrize("key", ["ca_bundle", "client_cert"])
def test_a_file_that_is_no_certificate_stops_the_start(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.pem"
    path.write_text("nothing of the kind\n")
    with pytest.raises(ConfigError, match=f"{key} cannot be used: the file"):
        send(1, **{key: str(path)})


def test_an_upstream_of_an_old_tls_is_named(authority: Authority) -> None:
    context = authority.context()
    for name in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            setattr(context, name, ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with secure(context, proxied=False) as (port, way):
        error = failure(port, ca_bundle=authority.bundle, **way)
    assert error.kind == "tls"
    assert "no TLS 1.2 or newer" in error.detail


def test_the_record_of_a_call_leads_to_the_proxy_and_its_caller_learns_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(tunnel("outgate", "right")) as proxy:
        monkeypatch.setenv("WAY_OUT", by(proxy, "outgate:hunter2@").reveal())
        with gateway(upstream={"outbound_proxy": {"env": "WAY_OUT"}}) as gate:
            answer = gate.ask(COMPLETION)
            (failed,) = gate.record().failures
    assert (answer.status, b"proxy" in answer.body, b"407" in answer.body) == (502, False, False)
    assert (failed.kind, "credentials (407)" in failed.detail) == ("connect", True)


@contextlib.contextmanager
def raw(said: bytes) -> Iterator[int]:
    """The port of a server that answers whatever comes, such as half a handshake, with ``said``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(said)

        threading.Thread(target=once, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"", "the other side hung up during the handshake"),
        (b"HTTP/1.1 400 hunter2\r\n\r\n", "does not speak TLS"),
        (b"\x15\x03\x03\0\2\2\x28", "the upstream refused the handshake"),  # handshake_failure
        (b"\x15\x03\x03\0\2\2\x46", "no TLS 1.2 or newer"),  # protocol_version
        (b"\x15\x03\x03\0\2\2\x31", "refused the client certificate"),  # access_denied
        (b"\x15\x03\x03\0\2\2\x50", "INTERNAL_ERROR"),
    ],
    ids=["nothing", "HTTP", "refusal", "version", "access", "other"],
)
def test_a_handshake_that_fails_says_how(said: bytes, detail: str) -> None:
    with raw(said) as port:
        error = failure(port)
    assert error.kind == "tls"
    assert detail in error.detail


def test_an_upstream_that_hangs_up_over_a_request_is_a_cut(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            sock, _ = listener.accept()
            authority.context().wrap_socket(sock, server_side=True).close()

        threading.Thread(target=once, daemon=True).start()
        upstream = upstream_at(
            0,
            base_url=f"https://localhost:{listener.getsockname()[1]}",
            ca_bundle=authority.bundle,
        )
        with pytest.raises(UpstreamError) as caught:
            Egress([upstream], LIMITS).send(
                upstream, "POST", "/completions", b"x" * 8_000_000, {}, Handle()
            )
    assert (caught.value.kind, caught.value.bytes_received) == ("cut", False)
