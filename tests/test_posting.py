import hashlib
import hmac
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from proxy import ConfigError, Poster, PostHeaders, Secret
from tests.receivers import certificates, http_receiver


def test_a_post_arrives_as_it_was_given() -> None:
    with http_receiver() as receiver:
        receiver.status = 204
        poster = Poster(f"{receiver.url}/v1/in")
        assert poster.post(b"body", {"content-type": "text/plain", "x-a": "b"}) == 204
        (post,) = receiver.posts
    assert (post.path, post.body) == ("/v1/in", b"body")
    shown = {name.lower(): value for name, value in post.headers.items()}
    assert (shown["content-type"], shown["x-a"], shown["user-agent"]) == (
        "text/plain",
        "b",
        "outgate",
    )


def test_a_server_is_verified_by_the_given_authority_only(tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    with http_receiver(ours.server()) as receiver:
        assert Poster(receiver.url, ca_bundle=ours.bundle).post(b"", {}) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            Poster(receiver.url).post(b"", {})
        elsewhere = receiver.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            Poster(elsewhere, ca_bundle=ours.bundle).post(b"", {})
    assert len(receiver.posts) == 1


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    context = ours.server()
    context.verify_mode = ssl.CERT_REQUIRED
    ours.authority.configure_trust(context)
    cert, key = ours.client(tmp_path)
    with http_receiver(context) as receiver:
        poster = Poster(receiver.url, ca_bundle=ours.bundle, client_cert=cert, client_key=key)
        assert poster.post(b"", {}) == 200


def test_no_redirect_is_followed() -> None:
    with http_receiver() as elsewhere, http_receiver() as receiver:
        receiver.status, receiver.headers = 307, {"location": elsewhere.url}
        assert Poster(receiver.url).post(b"secret", {}) == 307
    assert elsewhere.posts == []


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as proxy, http_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert Poster(receiver.url).post(b"", {}) == 200
    assert proxy.posts == []


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 2"])
def test_what_is_no_http_is_an_error_of_the_network(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(OSError):
            Poster(f"http://127.0.0.1:{listener.getsockname()[1]}").post(b"", {})
        thread.join()


def test_a_receiver_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(TimeoutError):
            Poster(f"http://127.0.0.1:{port}", timeout=0.1).post(b"", {})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://host/", "this URL is https://host"),
        ("https://user:pass@host/", "no user name or password"),
        ("https://host/?key=1", "no query"),
        ("http://collector.example/", "cross the network in plain text"),
        ("", "this URL is https://host"),
    ],
)
def test_a_url_that_will_not_do_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Poster(url)
    assert "pass@" not in str(caught.value)


def test_plain_http_to_another_machine_is_the_operators_to_allow() -> None:
    Poster("http://collector.example:4318/v1/traces", allow_http=True)


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_bundle cannot be used: No such file"):
        Poster("https://host", ca_bundle=str(tmp_path / "none.pem"))


def test_a_post_of_json_is_signed_over_its_time_and_its_body() -> None:
    marks = PostHeaders(Secret("signing-key-0123456789"), {"X-Team": Secret("eu-0123456")})
    found = marks.of(b"{}")
    moment = found["x-outgate-timestamp"]
    assert abs(int(moment) - time.time()) < 300
    mac = hmac.new(b"signing-key-0123456789", f"{moment}.{{}}".encode(), hashlib.sha256)
    assert found["x-outgate-signature"] == f"v1={mac.hexdigest()}"
    assert (found["content-type"], found["X-Team"]) == ("application/json", "eu-0123456")
    assert PostHeaders(None, {}).of(b"{}") == {"content-type": "application/json"}


def test_headers_and_secrets_that_will_not_do_are_refused() -> None:
    for name in ("Host", "content-length", "a b", ""):
        with pytest.raises(ConfigError, match="cannot be set here"):
            PostHeaders(None, {name: Secret("x" * 20)})
    with pytest.raises(ConfigError, match="can be guessed"):
        PostHeaders(Secret("too short"), {})
