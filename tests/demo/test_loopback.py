import http.client
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from proxy.demo import create_upstream, running
from tests.demo.conftest import Site

BODY = b'{"model": "demo-base", "prompt": "The sea", "max_tokens": 3}'


def test_one_connection_serves_many_requests(site: Site) -> None:
    connection = http.client.HTTPConnection(urlsplit(site.base).netloc)
    connection.connect()
    mine = connection.sock
    for body in (BODY, b"not json", BODY):
        connection.request("POST", "/v1/completions", body)
        assert connection.getresponse().read()
        assert connection.sock is mine
    connection.request("HEAD", "/v1/models")
    assert connection.getresponse().read() == b""
    connection.request("POST", "/v1/completions", iter([BODY[:9], BODY[9:]]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_each_piece_arrives_before_the_next_one_is_made() -> None:
    gate = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        assert gate.wait(20)
        yield b"second"

    with running(app) as base:
        connection = http.client.HTTPConnection(urlsplit(base).netloc)
        connection.request("GET", "/")
        reply = connection.getresponse()
        assert reply.read1() == b"first"
        gate.set()
        assert reply.read() == b"second"
        connection.close()


def test_open_connections_are_cut_and_their_threads_end() -> None:
    before = threading.active_count()
    with running(create_upstream()) as base:
        idle = http.client.HTTPConnection(urlsplit(base).netloc)
        idle.request("GET", "/v1/models")
        assert idle.getresponse().read()
    assert idle.sock.recv(1) == b""
    idle.close()
    assert threading.active_count() == before


def test_any_wsgi_application_can_be_served() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return [b"plain"]

    with running(app) as base:
        assert Site(base).get("/").text == "plain"
