"""A running gateway for tests: the real application on loopback, a scripted upstream behind it.

with gateway(json_reply(REPLY)) as gate:
    answer = gate.ask(COMPLETION)
assert gate.upstream.requests[0].json() == COMPLETION
"""

import hashlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask

from proxy import Record, hookimpl
from proxy.app import create_app
from proxy.config import parse
from proxy.demo.loopback import running
from proxy.pipeline import Pipeline
from tests.upstream import Script, ScriptedUpstream, json_reply

KEY: Final = "caller-key-0123456789"
UPSTREAM_KEY: Final = "sk-upstream-0123456789"
COMPLETION: Final = {"model": "m", "prompt": "Hello"}
STREAMED: Final = {**COMPLETION, "stream": True}
CHOICE: Final = {"text": " world", "index": 0, "logprobs": None, "finish_reason": "stop"}
REPLY: Final = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
JSON: Final = ("Content-Type", "application/json")
PATIENCE: Final = 60.0

Headers = Sequence[tuple[str, str]]
_boxes: dict[str, list[Record]] = {}


def chunk(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One event of a streamed completion."""
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    envelope = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return {**envelope, "choices": [choice]}


@dataclass(frozen=True)
class Recorder:
    """The log of one gateway."""

    box: str

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        _boxes[self.box].append(record)


@dataclass(frozen=True)
class Answer:
    """What a caller got, byte for byte."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which must have OpenAI's shape."""
        error = self.json()["error"]
        assert list(error) == ["message", "type", "param", "code"], error
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        return dict(error)


def request_bytes(
    method: str, path: str, headers: Headers, body: bytes, host: str = "gateway"
) -> bytes:
    """A request as it goes over the wire; Content-Length is added unless the headers frame the body."""
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def read_answer(sock: socket.socket) -> Answer:
    """The one answer on a connection."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    with response:
        return Answer(response.status, response.getheaders(), response.read())


def bearer(key: str = KEY) -> list[tuple[str, str]]:
    return [JSON, ("Authorization", f"Bearer {key}")]


class Gateway:
    """One running gateway; ``records`` is its log."""

    def __init__(self, url: str, app: Flask, upstream: ScriptedUpstream, box: str) -> None:
        self.app = app
        self.upstream = upstream
        self.records = _boxes[box]
        self.port = int(url.rsplit(":", 1)[1])
        self.pipeline: Pipeline = app.extensions["outgate"]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(
        self,
        body: Any = None,
        headers: Headers | None = None,
        *,
        path: str = "/v1/completions",
        method: str = "POST",
    ) -> socket.socket:
        """Send a request; the socket its answer comes from. A body that is not bytes goes as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else encoded(body)
        sock = self.connect()
        sock.sendall(request_bytes(method, path, bearer() if headers is None else headers, data))
        return sock

    def ask(
        self,
        body: Any = None,
        headers: Headers | None = None,
        *,
        path: str = "/v1/completions",
        method: str = "POST",
    ) -> Answer:
        """Send a request and read the answer to its end; its record comes before that of the next."""
        others = self.pipeline.gate.inside
        with self.send(body, headers, path=path, method=method) as sock:
            answer = read_answer(sock)
        self._wait(lambda: self.pipeline.gate.inside <= others, 1.0)
        return answer

    def record(self, count: int = 1) -> Record:
        """The last record, once there are ``count``; and there are no more."""
        self._wait(lambda: len(self.records) >= count, PATIENCE)
        assert len(self.records) == count, self.records
        return self.records[-1]

    @staticmethod
    def _wait(is_so: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_so() and time.monotonic() < deadline:
            time.sleep(0.002)

    def settled(self) -> bool:
        """Whether nothing of any call is left inside."""
        return self.pipeline.gate.inside == 0


def encoded(value: Any) -> bytes:
    """JSON as most clients write it."""
    return json.dumps(value).encode()


def document(
    url: str,
    box: str,
    *,
    plugins: Sequence[Mapping[str, Any]] = (),
    upstream: Mapping[str, Any] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """A configuration with one upstream ``main``, one key, and a recorder.

    In the ``base_url`` of ``upstream``, ``{url}`` is the scripted server; a key that is None is left out.
    """
    os.environ["TEST_UPSTREAM_KEY"] = UPSTREAM_KEY
    main = {
        "provider": "openai_compatible",
        "base_url": f"{url}/v1",
        "credential": {"env": "TEST_UPSTREAM_KEY"},
        "allow_private": True,
        **(upstream or {}),
    }
    main = {name: value for name, value in main.items() if value is not None}
    main["base_url"] = str(main["base_url"]).replace("{url}", url)
    key = {"name": "alice", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    return {
        "upstreams": {"main": main},
        "routes": [{"upstreams": ["main"]}],
        "plugins": [
            {"use": "static_keys", "options": {"keys": [key]}},
            {"use": "openai_compatible"},
            *plugins,
            {"use": "tests.gateway:Recorder", "name": "recorder", "options": {"box": box}},
        ],
        **sections,
    }


@contextmanager
def gateway(
    *scripts: Script,
    plugins: Sequence[Mapping[str, Any]] = (),
    upstream: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Iterator[Gateway]:
    """A gateway in front of an upstream that plays ``scripts``; nothing of a call is left when it ends."""
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedUpstream(*(scripts or (json_reply(REPLY),))))
        box = f"box-{id(server)}"
        _boxes[box] = []
        stack.callback(_boxes.pop, box)
        settings = document(server.url, box, plugins=plugins, upstream=upstream, **sections)
        app = create_app(parse(settings))
        stack.callback(app.extensions["outgate"].close)
        url = stack.enter_context(running(app))
        found = Gateway(url, app, server, box)
        yield found
        server.release()
        server.wait_for(found.settled)


def refused(answer: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    """The error of an answer with this status, for a caller that need not try again."""
    assert answer.status == status, (answer.status, answer.body)
    error = answer.error
    assert code is None or error["code"] == code, error
    assert answer.header("x-should-retry") == "false"
    assert answer.header("x-request-id")
    assert b"Traceback" not in answer.body
    return error
