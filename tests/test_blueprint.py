import gc
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from flask import Flask, Response, has_request_context, request
from flask.signals import request_started
from werkzeug.exceptions import ImATeapot, InternalServerError
from werkzeug.test import create_environ

from proxy import Deny, hookimpl
from proxy.blueprint import Checked
from tests.gateway import (
    COMPLETION,
    JSON,
    KEY,
    REPLY,
    STREAMED,
    Gateway,
    bearer,
    chunk,
    gateway,
    refused,
)
from tests.upstream import reply, silent, sse

#: Headers whose values no two answers share.
_ITS_OWN: Final = {"date", "x-request-id", "x-outgate-id"}


@dataclass(frozen=True)
class Pages:
    """A plugin with pages, each with a fault of its own."""

    @hookimpl
    def init_app(self, app: Flask) -> None:
        """Add them."""

        @app.get("/broken")
        def broken() -> Response:
            raise RuntimeError(KEY)

        @app.get("/teapot")
        def teapot() -> Response:
            raise ImATeapot

        @app.get("/unable")
        def unable() -> Response:
            raise InternalServerError

        @app.after_request
        def fail(response: Response) -> Response:
            if response.headers.get("content-type") == "application/fail":
                raise RuntimeError("after the call")
            return response


@dataclass(frozen=True)
class Splitting:
    """Refuses with a header that goes on in the next line."""

    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("Later.", "later", status=429, headers={"retry-after": "1\r\nset-cookie: a=b"})


_inside_flask: Final[list[bool]] = []


@dataclass(frozen=True)
class Looking:
    """Notes whether Flask is around a call."""

    @hookimpl
    def guard_request(self) -> None:
        _inside_flask.append(has_request_context())


@pytest.fixture(scope="module")
def gate() -> Iterator[Gateway]:
    with gateway(plugins=[{"use": "tests.test_blueprint:Pages"}]) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/completions"),
        ("POST", "/completions"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/models"),
        ("GET", "/v1/models/a/b"),
    ],
)
def test_these_are_served_and_recorded(gate: Gateway, method: str, path: str) -> None:
    gate.records.clear()
    body = {"model": "m", "prompt": "p", "messages": [], "input": "i"} if method == "POST" else None
    assert gate.ask(body, path=path, method=method).json() == REPLY
    assert gate.record().outcome == "ok"


@pytest.mark.parametrize(
    "path", ["/v1/completion", "/v1", "/", "/v1/completions/", "/v2/models", "/v1/responses", "/é"]
)
def test_anything_else_is_404_in_openai_s_shape_and_no_record(gate: Gateway, path: str) -> None:
    gate.records.clear()
    for method in ("GET", "POST", "DELETE"):
        error = refused(gate.ask(path=path, method=method), 404, "unknown_url")
        assert "POST /v1/completions" in error["message"]
    assert gate.records == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", "POST"),
        ("OPTIONS", "/v1/completions", "POST"),
        ("DELETE", "/v1/models/m", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_no_record(
    gate: Gateway, method: str, path: str, allowed: str
) -> None:
    gate.records.clear()
    answer = gate.ask(path=path, method=method)
    refused(answer, 405, "method_not_allowed")
    assert answer.header("allow") == allowed
    assert gate.records == []


def test_head_costs_no_call(gate: Gateway) -> None:
    gate.upstream.requests.clear()
    with gate.send(path="/v1/models", method="HEAD") as sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 405 ")
    assert gate.upstream.requests == []


def test_health_and_readiness_are_told_to_anyone(gate: Gateway) -> None:
    assert gate.ask(path="/healthz", method="GET", headers=[]).json() == {"status": "ok"}
    ready = gate.ask(path="/readyz", method="GET", headers=[])
    assert ready.status == 200
    assert ready.json() == {
        "status": "ready",
        "reasons": [],
        "digest": gate.pipeline.parts.digest,
        "calls": 0,
        "capacity": gate.pipeline.gate.capacity,
    }


def test_a_page_that_breaks_shows_nothing_of_its_fault(gate: Gateway) -> None:
    answer = gate.ask(path="/broken", method="GET")
    refused(answer, 500, "internal_error")
    assert KEY.encode() not in answer.body


def test_another_http_error_keeps_its_status(gate: Gateway) -> None:
    refused(gate.ask(path="/teapot", method="GET"), 418, "bad_request")
    assert refused(gate.ask(path="/unable", method="GET"), 500)["type"] == "server_error"


def test_a_call_whose_answer_is_dropped_on_its_way_out_is_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Or the log of this test would keep the fault, and with it the answer, alive.
    caplog.set_level(logging.CRITICAL, logger="outgate")
    script = reply(500, [("content-type", "application/fail")], b"{}")
    with gateway(script, plugins=[{"use": "tests.test_blueprint:Pages"}]) as gate:
        refused(gate.ask(COMPLETION), 500, "internal_error")
        gate.upstream.wait_for(lambda: bool(gc.collect()) and len(gate.records) == 1)
        assert gate.record().outcome == "client_gone"
        gate.upstream.wait_for(gate.settled)


def test_calls_above_capacity_are_refused_at_once() -> None:
    with gateway(silent(), limits={"concurrent_calls": 1}) as gate:
        first = gate.send(COMPLETION)
        gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
        answer = gate.ask(COMPLETION, bearer())
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert answer.header("retry-after") == "1"
        first.close()
        gate.upstream.wait_for(gate.settled)
        assert {record.outcome for record in gate.records} == {"denied", "client_gone"}


def test_a_refusal_whose_retry_header_would_end_its_line_is_told_without_it() -> None:
    with gateway(plugins=[{"use": "tests.test_blueprint:Splitting"}]) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (429, "later")
        assert answer.header("set-cookie") is None
        assert answer.header("retry-after") is None
        assert gate.record().code == "later"


def test_a_header_that_ends_its_line_never_leaves() -> None:
    with pytest.raises(ValueError, match="end of a line"):
        Checked([("x-a", "b"), ("x-c", "d\r\nset-cookie: e")])
    assert Checked([("X-A", "b")])["x-a"] == "b"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (COMPLETION, None),
        (STREAMED, None),
        (COMPLETION, [JSON]),
        (COMPLETION, [("Authorization", f"Bearer {KEY}")]),
        (b"{", None),
        ({"model": "m"}, None),
    ],
)
@pytest.mark.parametrize("status", [200, 204, 500])
def test_calls_are_answered_alike_with_and_without_flask_around_them(
    body: Any, headers: Any, status: int
) -> None:
    answers = []
    for plugins in ([], [{"use": "tests.test_blueprint:Pages"}]):
        said = json.dumps(REPLY).encode() if status != 204 else b""
        script = (
            sse([chunk("a", "stop"), "[DONE]"]) if body is STREAMED else reply(status, [JSON], said)
        )
        with gateway(script, plugins=plugins) as gate:
            answer = gate.ask(body, headers)
            shown = [each for each in answer.headers if each[0].lower() not in _ITS_OWN]
            answers.append((answer.status, shown, answer.body, gate.record().outcome))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("around", "is_inside"),
    [
        ([], False),
        ([{"use": "metrics"}], False),
        ([{"use": "tests.test_blueprint:Pages"}], True),
    ],
)
def test_flask_is_around_calls_only_where_somebody_set_something_for_every_request(
    around: list[dict[str, Any]], is_inside: bool
) -> None:
    _inside_flask.clear()
    with gateway(plugins=[{"use": "tests.test_blueprint:Looking"}, *around]) as gate:
        assert gate.ask(COMPLETION).status == 200
    assert _inside_flask == [is_inside]


def test_a_fault_before_a_call_began_is_told_in_openai_s_shape() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, gateway() as gate:
        environ = create_environ("/v1/completions", method="POST", json=COMPLETION)
        response = Response.from_app(gate.app, {**environ, "gunicorn.socket": ours})
    assert response.status_code == 500
    assert response.get_json()["error"]["code"] == "internal_error"
    assert response.headers["x-request-id"]


def test_a_server_that_leaves_out_an_empty_path_is_answered() -> None:
    with gateway() as gate:
        environ = create_environ("/", method="POST")
        del environ["PATH_INFO"]
        assert Response.from_app(gate.app, environ).status_code == 404


def test_who_watches_requests_sees_calls_too() -> None:
    seen: list[Any] = []
    with gateway() as gate:
        assert gate.ask(COMPLETION).status == 200
        with request_started.connected_to(lambda *_, **__: seen.append(request.path)):
            assert gate.ask(COMPLETION).status == 200
        assert gate.ask(COMPLETION).status == 200
    assert seen == ["/v1/completions"]
