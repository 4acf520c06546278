"""A running proxy for tests: the real application on loopback, with your configuration, before a scripted upstream."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from proxy import stream
from proxy.app import create_app
from proxy.blueprint import KEY
from proxy.config import parse, read
from proxy.demo.loopback import running
from proxy.hookspecs import hookimpl
from proxy.model import Endpoint
from proxy.records import Record
from proxy.testing.rehearsal import BODIES
from proxy.testing.replies import events
from proxy.testing.results import said
from proxy.testing.upstream import ScriptedUpstream

_PATHS: Final[Mapping[str, str]] = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "models": "/v1/models",
}
#: What leads elsewhere than to the test's own upstream, or needs a secret that a test has not.
_ELSEWHERE: Final = frozenset({
    "ca_bundle", "client_cert", "client_key", "credential", "outbound_proxy",
})  # fmt: skip
_PATIENCE: Final = 60.0
_boxes: dict[str, list[Record]] = {}


@dataclass(frozen=True)
class Recorder:
    """Keeps the records of one proxy."""

    box: str

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        """Keep it, unless the test is over."""
        _boxes.get(self.box, []).append(record)


class Response(Struct, frozen=True):
    """What a caller got: ``data`` byte for byte, and the ``record`` of its call."""

    endpoint: Endpoint
    status: int
    headers: Mapping[str, str]
    data: bytes
    record: Record

    @property
    def body(self) -> Any:
        """Its JSON; of a stream, the whole reply that it says."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return stream.assemble(self.endpoint, self.events)
        return json.loads(self.data)

    @property
    def events(self) -> list[Any]:
        """The chunks of a stream."""
        return events(self.data)

    @property
    def shown(self) -> str:
        """The text of its first choice."""
        return said(self.body)


class OutgateProxy:
    """A running proxy: ``url`` ends with ``/v1``, ``upstream`` is what it sends to, ``records`` is its log."""

    def __init__(self, address: str, upstream: ScriptedUpstream, records: list[Record]) -> None:
        self.url = f"{address}/v1"
        self.upstream = upstream
        self.records = records
        self._address = address.removeprefix("http://")

    def completions(self, *, headers: Mapping[str, str] | None = None, **params: Any) -> Response:
        """``POST /v1/completions``; model and prompt have defaults."""
        return self.call("completions", headers=headers, **params)

    def chat(self, *, headers: Mapping[str, str] | None = None, **params: Any) -> Response:
        """``POST /v1/chat/completions``; model and messages have defaults."""
        return self.call("chat", headers=headers, **params)

    def call(
        self, endpoint: Endpoint, *, headers: Mapping[str, str] | None = None, **params: Any
    ) -> Response:
        """Call ``completions``, ``chat``, ``embeddings`` or ``models``, and wait for the record of the call."""
        body = {**BODIES[endpoint], **params} if endpoint in BODIES else None
        sent = {"Content-Type": "application/json"} if body is not None else {}
        connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE)
        try:
            data = None if body is None else json.dumps(body)
            method = "GET" if body is None else "POST"
            connection.request(method, _PATHS[endpoint], data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            data_back = answer.read()
        finally:
            connection.close()
        record = self._record(got["x-outgate-id"])
        return Response(endpoint, answer.status, got, data_back, record)

    def _record(self, name: str) -> Record:
        """The record of a call: it comes after the last byte."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if found := [record for record in self.records if record.id == name]:
                return found[0]
            time.sleep(0.002)
        raise TimeoutError(f"no record of {name} within {_PATIENCE:g} s")


@contextmanager
def proxy(
    config: Mapping[str, Any] | str | Path, upstream: ScriptedUpstream
) -> Iterator[OutgateProxy]:
    """A proxy with this configuration: a mapping as in ``outgate.toml``, or a path to one.

    Every upstream of it leads to ``upstream``; without any there is one, ``test``, and a route to it. Calls
    without a key are served as ``tester``, unless ``[access]`` says otherwise. Raises ``ConfigError``.
    """
    box = f"{id(upstream)}"
    records = _boxes.setdefault(box, [])
    try:
        app = create_app(parse(_document(config, f"{upstream.url}/v1", box)))
        try:
            with running(app) as address:
                yield OutgateProxy(address, upstream, records)
        finally:
            app.extensions[KEY].close()
    finally:
        del _boxes[box]


def _document(config: Mapping[str, Any] | str | Path, url: str, box: str) -> dict[str, Any]:
    # A test that writes out a credential wants it sent; that of a file is the company's.
    left_out = frozenset[str]() if isinstance(config, Mapping) else _ELSEWHERE
    written = dict(config) if isinstance(config, Mapping) else read(config)
    here = {"base_url": url, "allow_private": True}
    upstreams = {
        name: {**{key: v for key, v in entry.items() if key not in left_out}, **here}
        for name, entry in written.get("upstreams", {}).items()
    }
    plugins = list(written.get("plugins", ()))
    if not upstreams:
        upstreams = {"test": {"provider": "openai_compatible", **here}}
        if not any(entry.get("use") == "openai_compatible" for entry in plugins):
            plugins.append({"use": "openai_compatible"})
    recorder = {"use": f"{__name__}:Recorder", "name": "test-records", "options": {"box": box}}
    return {
        "routes": [{"upstreams": list(upstreams)}],
        "access": {"anonymous": "tester"},
        **written,
        "upstreams": upstreams,
        "plugins": [*plugins, recorder],
    }
