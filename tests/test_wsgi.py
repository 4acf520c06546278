"""The application keeps to WSGI (PEP 3333) with every kind of answer, as the standard library's checker sees it."""

import io
import json
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from tests.gateway import COMPLETION, KEY, REPLY, STREAMED, Gateway, chunk, encoded, gateway
from tests.upstream import Script, cut_after, hang_up, json_reply, sse

_STREAM = sse([chunk(" wor"), chunk("ld", "stop"), "[DONE]"])


def request(method: str, path: str, body: bytes = b"", **more: str) -> dict[str, Any]:
    """The environment of a request that a checked server makes."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return environ | {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "HTTP_AUTHORIZATION": f"Bearer {KEY}",
        "wsgi.input": io.BytesIO(body),
        **more,
    }


def call(gate: Gateway, environ: dict[str, Any]) -> tuple[str, bytes]:
    """Status and body of the answer."""
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        told[:] = [status, headers]
        return lambda _: None

    reply = validator(gate.app)(environ, start_response)
    try:
        data = b"".join(_checked(reply))
    finally:
        reply.close()  # type: ignore[attr-defined]
    return told[0], data


def _checked(pieces: Any) -> Iterator[bytes]:
    for piece in pieces:
        assert type(piece) is bytes
        yield piece


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        (json_reply(REPLY), COMPLETION, 200),
        (_STREAM, STREAMED, 200),
        (cut_after(150, _STREAM), STREAMED, 200),
        (json_reply({"error": {"message": "no"}}, 404), COMPLETION, 404),
        (hang_up(), COMPLETION, 502),
    ],
    ids=["whole", "stream", "cut stream", "upstream error", "no answer"],
)
def test_an_answer_of_an_upstream_is_valid_wsgi(script: Script, body: Any, status: int) -> None:
    with gateway(script) as gate:
        told, _ = call(gate, request("POST", "/v1/completions", encoded(body)))
        assert told.startswith(str(status))


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/healthz", b"", 200),
        ("GET", "/readyz", b"", 200),
        ("GET", "/openapi.json", b"", 200),
        ("HEAD", "/healthz", b"", 200),
        ("GET", "/v1/models", b"", 200),
        ("HEAD", "/v1/models", b"", 405),
        ("GET", "/v1/nothing", b"", 404),
        ("DELETE", "/v1/completions", b"", 405),
        ("POST", "/v1/completions", b"{", 400),
        ("POST", "/v1/completions", b"", 400),
        ("POST", "/v1/completions", b"{" + b" " * 3_000_000 + b"}", 413),
    ],
)
def test_an_answer_of_ours_is_valid_wsgi(method: str, path: str, body: bytes, status: int) -> None:
    with gateway() as gate:
        told, data = call(gate, request(method, path, body))
        assert told.startswith(str(status))
        if method == "HEAD":
            assert data == b""
        else:
            assert json.loads(data)


def test_a_refusal_before_the_body_was_read_is_valid_wsgi() -> None:
    with gateway() as gate:
        for more in (
            {"HTTP_AUTHORIZATION": "Bearer wrong"},
            {"CONTENT_TYPE": "text/plain"},
            {"HTTP_CONTENT_ENCODING": "gzip"},
            {"QUERY_STRING": "x=1"},
        ):
            told, data = call(gate, request("POST", "/v1/completions", encoded(COMPLETION), **more))
            assert told[0] == "4"
            assert json.loads(data)["error"]
        assert gate.upstream.connections == 0


def test_a_caller_who_closes_a_stream_early_is_valid_wsgi() -> None:
    with gateway(_STREAM) as gate:
        environ = request("POST", "/v1/completions", encoded(STREAMED))
        reply = validator(gate.app)(environ, lambda *_: lambda _: None)
        next(iter(reply))
        reply.close()  # type: ignore[attr-defined]
        assert gate.record().outcome == "client_gone"
