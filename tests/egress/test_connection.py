import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.egress import Egress, Handle
from proxy.egress.adapter import PinnedAdapter, PinnedRequest, origin_headers
from proxy.egress.addresses import Address, parse_base_url
from proxy.egress.attempt import Attempt, here
from proxy.egress.connection import Pin, PinnedConnection, _checked_peer
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
    run_apart,
    says,
    serving,
    silent,
    upstream_at,
)
from tests.ports import free_port

FINE = ok(b"{}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextlib.contextmanager
def secure(authority: Authority, script: Script, *names: str) -> Iterator[Server]:
    with serving(script, authority.context(*names)) as server:
        yield server


def send(server: Server, handle: Handle | None = None, **changes: object) -> tuple[int, bytes, str]:
    settings = {"base_url": f"https://localhost:{server.port}/v1"} | changes
    upstream = upstream_at(server.port, **settings)
    egress = Egress([upstream], LIMITS)
    try:
        reply = egress.send(upstream, "POST", "/completions", b"{}", {}, handle or Handle())
        return reply.status, reply.read(100), reply.address
    finally:
        egress.close()


def test_tls_names_the_host_and_connects_to_the_checked_address(authority: Authority) -> None:
    authority.names.clear()
    with secure(authority, says(FINE)) as server:
        status, body, address = send(server, ca_bundle=authority.bundle)
        assert (status, body) == (200, b"{}")
        assert address == f"127.0.0.1:{server.port}"
        assert authority.names == ["localhost"]
        assert b"\r\nHost: localhost:%d\r\n" % server.port in server.requests[0]


def test_a_bundle_may_be_a_folder(authority: Authority, tmp_path: Path) -> None:
    with secure(authority, says(FINE)) as server, pytest.raises(UpstreamError, match="tls"):
        send(server, ca_bundle=str(tmp_path))  # empty, so nobody is trusted


def test_an_unknown_authority_is_refused(authority: Authority) -> None:
    with secure(authority, says(FINE)) as server:
        with pytest.raises(UpstreamError) as caught:
            send(server)
        assert caught.value.kind == "tls"
        assert "certificate was not accepted" in caught.value.detail
        assert server.requests == []


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with secure(authority, says(FINE), "other.example") as server:
        with pytest.raises(UpstreamError) as caught:
            send(server, ca_bundle=authority.bundle)
        assert caught.value.kind == "tls"


def test_an_upstream_that_does_not_speak_tls_is_a_tls_error(authority: Authority) -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(FINE)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                script(sock, b"")

        threading.Thread(target=speak, daemon=True).start()
        upstream = upstream_at(0, base_url=f"https://localhost:{listener.getsockname()[1]}")
        with pytest.raises(UpstreamError) as caught:
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())
    assert caught.value.kind == "tls"


def test_the_environment_is_ignored(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc, log = tmp_path / "netrc", tmp_path / "keys.log"
    netrc.write_text("machine localhost login leaked password leaked\n")
    netrc.chmod(0o600)
    with serving(says(FINE)) as trap, secure(authority, says(FINE, then_close=False)) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, authority.bundle)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("SSLKEYLOGFILE", str(log))
        # The environment's authority does not make the upstream trusted …
        with pytest.raises(UpstreamError, match="tls"):
            send(server)
        # … and with the configured one, nothing of the environment is sent or written.
        assert send(server, ca_bundle=authority.bundle)[0] == 200
        assert b"authorization" not in server.requests[0].lower()
        assert trap.connections == 0
    assert not log.exists()


def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    mine = authority.ca.issue_cert("client@example.org")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine.cert_chain_pems[0].write_to_path(cert)
    mine.private_key_pem.write_to_path(key)
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    with serving(says(FINE), context) as server:
        bundle = authority.bundle
        seen = send(server, ca_bundle=bundle, client_cert=str(cert), client_key=str(key))
        assert seen[0] == 200
        with pytest.raises(UpstreamError):
            send(server, ca_bundle=authority.bundle)


def test_an_encrypted_client_key_stops_the_start_without_asking(
    authority: Authority, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    mine = authority.ca.issue_cert("client@example.org")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine.cert_chain_pems[0].write_to_path(cert)
    loaded = form.load_pem_private_key(mine.private_key_pem.bytes(), None)
    locked = form.BestAvailableEncryption(b"pw")
    key.write_bytes(loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    upstream = upstream_at(
        1, base_url="https://localhost", client_cert=str(cert), client_key=str(key)
    )
    with pytest.raises(ConfigError, match="encrypted"):
        Egress([upstream], LIMITS)


def test_a_cancel_ends_a_tls_call_that_waits(authority: Authority) -> None:
    handle = Handle()
    threading.Timer(0.2, handle.cancel, ["client_gone"]).start()
    with secure(authority, silent) as server:
        with pytest.raises(UpstreamError, match="client_gone"):
            send(server, handle, ca_bundle=authority.bundle)
        assert server.gone.acquire(timeout=5)


def test_a_cancel_ends_a_tls_handshake_that_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = upstream_at(
            0,
            base_url=f"https://localhost:{listener.getsockname()[1]}",
            timeouts=Timeouts(connect=60),
        )
        handle = Handle()
        threading.Timer(0.2, handle.cancel, ["deadline"]).start()
        with pytest.raises(UpstreamError, match="deadline"):
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, handle)


def test_a_tls_handshake_that_waits_is_a_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = upstream_at(
            0,
            base_url=f"https://localhost:{listener.getsockname()[1]}",
            timeouts=Timeouts(connect=0.3),
        )
        with pytest.raises(UpstreamError, match="timeout_connect"):
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())


def test_a_dead_tls_connection_is_replaced_once(authority: Authority) -> None:
    number = iter(range(100))

    def script(sock: socket.socket, _: bytes) -> None:
        if next(number) == 1:
            raise ConnectionAbortedError
        sock.sendall(FINE)

    with secure(authority, script) as server:
        upstream = upstream_at(
            0, base_url=f"https://localhost:{server.port}", ca_bundle=authority.bundle
        )
        egress = Egress([upstream], LIMITS)
        seen = []
        for _ in range(2):
            reply = egress.send(upstream, "GET", "/models", None, {}, Handle())
            seen.append((reply.read(9), reply.attempts))
        egress.close()
    assert seen == [(b"{}", 1), (b"{}", 2)]


def test_a_configured_proxy_tunnels_tls_and_gets_no_upstream_header(authority: Authority) -> None:
    with secure(authority, says(FINE)) as server, serving(tunnel()) as proxy:
        outbound = Secret(f"http://user:pw@localhost:{proxy.port}")
        status, body, address = send(server, ca_bundle=authority.bundle, outbound_proxy=outbound)
        assert (status, body, address) == (200, b"{}", f"127.0.0.1:{proxy.port}")
        assert proxy.requests[0].startswith(b"CONNECT localhost:%d HTTP/1." % server.port)
        assert b"Proxy-Authorization: Basic dXNlcjpwdw==" in proxy.requests[0]
        assert b"proxy-authorization" not in server.requests[0].lower()


def test_a_proxy_that_refuses_is_a_connect_error_and_quotes_nothing(authority: Authority) -> None:
    with (
        secure(authority, says(FINE)) as server,
        serving(says(b"HTTP/1.1 407 hunter2\r\n\r\n")) as proxy,
        pytest.raises(UpstreamError) as caught,
    ):
        send(server, outbound_proxy=Secret(f"http://u:hunter2@127.0.0.1:{proxy.port}"))
    assert caught.value.kind == "connect"
    assert "hunter2" not in str(caught.value)


def test_a_proxy_that_talks_nonsense_is_a_connect_error() -> None:
    with serving(says(b"nonsense\r\n\r\n")) as proxy:
        upstream = upstream_at(
            0,
            base_url="https://upstream.test/v1",
            outbound_proxy=Secret(f"http://127.0.0.1:{proxy.port}"),
        )
        with pytest.raises(UpstreamError, match="connect"):
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())


def test_a_proxy_gets_plain_requests_in_absolute_form() -> None:
    with serving(tunnel()) as proxy:
        upstream = upstream_at(
            0,
            base_url="http://upstream.test/v1",
            outbound_proxy=Secret(f"http://127.0.0.1:{proxy.port}"),
        )
        egress = Egress([upstream], LIMITS)
        reply = egress.send(upstream, "GET", "/models", None, {}, Handle())
        assert reply.read(100) == b"by proxy"
        egress.close()
        assert proxy.requests[0].startswith(
            b"GET http://upstream.test/v1/models HTTP/1.1\r\nHost: upstream.test\r\n"
        )


def test_a_proxy_does_not_open_the_way_to_a_refused_literal_address() -> None:
    upstream = upstream_at(
        0,
        base_url="https://169.254.169.254/v1",
        outbound_proxy=Secret("http://127.0.0.1:1"),
        allow_private=False,
    )
    with pytest.raises(UpstreamError, match="refused_address"):
        Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())


def test_a_forked_child_never_uses_the_parents_connections() -> None:
    run_apart("""
        import os, sys
        from proxy.egress import Egress, Handle
        from tests.egress.servers import LIMITS, Server, ok, upstream_at

        def script(sock, request):
            sock.sendall(ok(request.partition(b"\\r\\n\\r\\n")[2]))

        server = Server(script)
        upstream = upstream_at(server.port)
        egress = Egress([upstream], LIMITS)

        def send(body):
            reply = egress.send(upstream, "POST", "/completions", body, {}, Handle())
            return reply.read(9), reply.reused

        assert send(b"parent") == (b"parent", False)
        pid = os.fork()
        if pid == 0:
            first, second = send(b"child"), send(b"again")
            egress.close()
            sys.exit(0 if (first, second) == ((b"child", False), (b"again", True)) else 2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert send(b"parent") == (b"parent", True)
        assert server.connections == 2
        egress.close()
    """)


def test_a_connection_that_rested_too_long_is_not_trusted() -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(FINE)

    with serving(script) as server:
        upstream = upstream_at(server.port)
        base = parse_base_url(upstream.base_url, allow_http=True)
        for keep, reused in ((0.0, [False, False]), (60.0, [False, True])):
            adapter = PinnedAdapter(upstream, base, None, keep=keep)
            seen = []
            for _ in range(2):
                headers = origin_headers(base, {}, None)
                request = PinnedRequest("GET", "/", headers, None, Handle(), Timeouts())
                response = adapter.send(request)
                assert response.raw.read1(64) == b"{}"
                seen.append(response.attempt.reused)
            adapter.close()
            assert seen == reused


class Fixed(Pin, frozen=True):
    """A pin with the addresses of a name that no resolver here would give."""

    found: tuple[Address, ...] = ()

    def addresses(self, host: str, port: int) -> list[Address]:  # noqa: ARG002
        return list(self.found)


def connect_to(*found: Address) -> None:
    here.attempt = Attempt(Handle(), Timeouts())
    connection = PinnedConnection("name.test", 80, pin=Fixed(found=found))
    try:
        connection.connect()
    finally:
        connection.close()


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    closed = ("127.0.0.1", free_port())
    with serving(silent) as server:
        good = Address(socket.AF_INET, ("127.0.0.1", server.port))
        connect_to(Address(socket.AF_INET, closed), good)
        with pytest.raises(ConnectionRefusedError):
            connect_to(Address(socket.AF_INET, closed), Address(socket.AF_INET, closed))


def test_a_connection_that_leads_elsewhere_is_refused() -> None:
    with (
        serving(silent) as server,
        socket.create_connection(("127.0.0.1", server.port)) as sock,
        pytest.raises(UpstreamError, match="another address"),
    ):
        _checked_peer(sock, Address(socket.AF_INET, ("127.0.0.2", server.port)))


def test_a_name_without_addresses_is_a_resolve_error() -> None:
    with pytest.raises(UpstreamError, match="resolve"):
        connect_to()


def test_the_callers_headers_may_be_left_out() -> None:
    with serving(says(FINE)) as server:
        here.attempt = Attempt(Handle(), Timeouts())
        connection = PinnedConnection("127.0.0.1", server.port, pin=Pin(allow_private=True))
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
