"""A marker in every slot that holds a credential turns up in no reply, record, log, trail, metric or page."""

import base64
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from proxy import Call, Reply, hookimpl
from tests.gateway import (
    COMPLETION,
    JSON,
    REPLY,
    STREAMED,
    Answer,
    Gateway,
    chunk,
    encoded,
    gateway,
)
from tests.upstream import (
    Script,
    cut_after,
    garbage,
    hang_up,
    json_reply,
    reply,
    rst,
    sse,
    stream,
)

_UPSTREAM: Final = "sk-CaNaRy-upstream-0001"
_CALLER: Final = "CaNaRy-caller-0002-0123456789"
_PROVIDER: Final = "CaNaRy-provider-0003-012345"
_SLOTS: Final = [
    ("Authorization", "Bearer CaNaRy-wrong-0004"),
    ("Authorization", "CaNaRy-bare-0005"),
    ("Authorization", "Basic " + base64.b64encode(b"user:CaNaRy-basic-0006").decode()),
    ("Authorization", "Bearer CaNaRy 0007 with blanks"),
    ("Authorization", "Bearer CaNaRy-\xe9-0008"),
    ("Authorization", "Bearer CaNaRy-0009" + "x" * 5000),
    ("Authorization", "Bearer CaNaRy-a-0010,Bearer CaNaRy-b-0010"),
    ("Authorization", "Bearer ' OR 1=1--CaNaRy-0011"),
    ("X-Portkey-Api-Key", "CaNaRy-portkey-0012"),
    ("X-Api-Key", "CaNaRy-x-api-key-0013"),
    ("Api-Key", "CaNaRy-api-key-0014"),
    ("Cookie", "session=CaNaRy-cookie-0015"),
    ("Proxy-Authorization", "Bearer CaNaRy-proxy-0016"),
    ("X-Portkey-Virtual-Key", "CaNaRy-virtual-0017"),
]
_LOOKING: Final = "looking-token-0123456789"
_METRICS: Final[dict[str, Any]] = {"use": "metrics", "options": {"token": {"env": "LOOKING_KEY"}}}
_PAGES: Final = [
    (path, [("Authorization", f"Bearer {_LOOKING}")])
    for path in ("/metrics", "/console", "/console/calls")
]
_MARKS: Final = (b"CaNaRy", base64.b64encode(b"user:CaNaRy-basic-0006"))


@dataclass(frozen=True)
class Broken:
    """A plugin with a bug in one of its hooks, which would print what it was given."""

    where: str

    @hookimpl
    def rewrite_request(self, call: Call) -> None:
        self._fail("rewrite_request", call)

    @hookimpl
    def guard_request(self, call: Call) -> None:
        self._fail("guard_request", call)

    @hookimpl
    def choose_upstream(self, call: Call) -> None:
        self._fail("choose_upstream", call)

    @hookimpl
    def answer_request(self, call: Call) -> None:
        self._fail("answer_request", call)

    @hookimpl
    def rewrite_response(self, call: Call, reply: Reply) -> None:
        self._fail("rewrite_response", (call, reply))

    @hookimpl
    def observe_response(self, call: Call, reply: Reply) -> None:
        self._fail("observe_response", (call, reply))

    @hookimpl
    def log_exchange(self, record: Any) -> None:
        self._fail("log_exchange", record)

    def _fail(self, hook: str, seen: Any) -> None:
        if hook == self.where:
            raise ValueError(repr(seen))


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CANARY_KEY", _UPSTREAM)
    monkeypatch.setenv("CANARY_CALLER", _CALLER)
    monkeypatch.setenv("LOOKING_KEY", _LOOKING)


def watched(folder: Path) -> dict[str, Any]:
    """Whatever keeps or shows what is known of calls."""
    os.environ["LOOKING_KEY"] = _LOOKING
    return {
        "audit": {"directory": str(folder / "trail")},
        "console": {"token": {"env": "LOOKING_KEY"}, "loopback_only": False},
    }


def keys() -> dict[str, Any]:
    """What lets the canaries in: a caller's key and an upstream's, both from the environment."""
    alice = {"name": "alice", "key": {"env": "CANARY_CALLER"}}
    return {"use": "static_keys", "name": "canaries", "options": {"keys": [alice]}}


def upstream(**more: Any) -> dict[str, Any]:
    return {"credential": {"env": "CANARY_KEY"}, "timeouts": {"first_byte": 0.3}, **more}


def leaks(
    gate: Gateway, texts: list[bytes], caplog: pytest.LogCaptureFixture, capfd: Any
) -> list[bytes]:
    """Every text in which a marker stands: replies, records, trail, pages, log, standard output and error."""
    pages = [told(gate.ask(None, headers, path=path, method="GET")) for path, headers in _PAGES]
    audit = gate.pipeline.parts.config.audit
    assert audit is not None
    trail = [path.read_bytes() for path in Path(audit.directory).iterdir() if path.is_file()]
    assert any(b'"outcome"' in text for text in trail)
    assert all(b"outgate_" in page or b"<h1" in page for page in pages)
    out, err = capfd.readouterr()
    records = [msgspec.json.encode(record) for record in gate.records]
    found = [*texts, *records, *trail, *pages, caplog.text.encode(), out.encode(), err.encode()]
    return [text for text in found if any(mark in text for mark in _MARKS)]


def told(answer: Answer) -> bytes:
    return repr(answer.headers).encode() + answer.body


def echoed(status: int = 401) -> Script:
    """An upstream that repeats the headers it got, as some do in an error."""

    def play(connection: Any, request: Any) -> None:
        shown = {name.decode(): value.decode() for name, value in request.headers}
        headers = [("X-Request-Id", f"for {request.header('authorization')}")]
        json_reply({"error": {"message": shown}}, status, headers)(connection, request)

    return play


def echoed_in_a_stream() -> Script:
    def play(connection: Any, request: Any) -> None:
        event = chunk(f"Your key is {request.header('authorization')}")
        sse([event, chunk("", "stop"), "[DONE]"])(connection, request)

    return play


FAULTS: Final[dict[str, Script]] = {
    "ok": json_reply(REPLY),
    "repeated in an error": echoed(),
    "repeated in a reply": echoed(200),
    "repeated in a stream": echoed_in_a_stream(),
    "hang-up": hang_up(),
    "reset": rst(),
    "garbage": garbage(),
    "redirect": reply(302, [("Location", "https://elsewhere.example/")]),
    "silence": cut_after(10, reply(200)),
    "cut stream": cut_after(300, sse([chunk("a" * 300)])),
    "html": reply(200, [("content-type", "text/html")], b"<p>"),
    "events that are none": stream(
        [b"data: {\n\n"], headers=[("content-type", "text/event-stream")]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_key_is_shown_whatever_the_upstream_does(
    secret: None, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    plugins = [keys(), _METRICS]
    for more in ({}, {"pass_caller_credential": True}):
        with gateway(
            FAULTS[fault], plugins=plugins, upstream=upstream(**more), **watched(tmp_path)
        ) as gate:
            headers = [JSON, ("X-Portkey-Api-Key", _CALLER), ("Cookie", "a=CaNaRy-cookie")]
            if more:
                headers.append(("Authorization", f"Bearer {_PROVIDER}"))
            answers = [told(gate.ask(body, headers)) for body in (COMPLETION, STREAMED)]
            gate.record(2)
            assert leaks(gate, answers, caplog, capfd) == []
            sent = {request.header("authorization") for request in gate.upstream.requests}
            assert sent == {f"Bearer {_PROVIDER if more else _UPSTREAM}"}


@pytest.mark.parametrize("hook", [name for name in vars(Broken) if not name.startswith("_")])
def test_no_key_is_shown_whichever_plugin_breaks(
    secret: None, tmp_path: Path, hook: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    if hook == "where":
        pytest.skip("a field, not a hook")
    plugins = [keys(), _METRICS, {"use": "tests.test_canary:Broken", "options": {"where": hook}}]
    script = sse([chunk("", "stop"), "[DONE]"])
    with gateway(script, plugins=plugins, upstream=upstream(), **watched(tmp_path)) as gate:
        headers = [JSON, ("Authorization", f"Bearer {_CALLER}"), ("X-Api-Key", _CALLER)]
        headers += [slot for slot in _SLOTS if slot[0] in {"Cookie", "Proxy-Authorization"}]
        answer = gate.ask(STREAMED, headers)
        assert answer.status == {
            "log_exchange": 200,
            "observe_response": 200,
            "choose_upstream": 502,
        }.get(hook, 500)
        gate.record()
        assert leaks(gate, [told(answer)], caplog, capfd) == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    os.environ["CANARY_KEY"] = _UPSTREAM
    seen = watched(tmp_path_factory.mktemp("seen"))
    plugins: list[dict[str, Any]] = [{"use": "portkey"}, _METRICS]
    with gateway(plugins=plugins, upstream={"credential": {"env": "CANARY_KEY"}}, **seen) as gate:
        yield gate


@pytest.mark.parametrize("slot", _SLOTS, ids=lambda slot: f"{slot[0]}-{slot[1][-8:]!r}")
def test_a_credential_that_opens_nothing_is_repeated_nowhere(
    plain: Gateway, slot: tuple[str, str], caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    plain.records.clear()
    answers = []
    bodies = (encoded(COMPLETION), b"{", b"", encoded({**COMPLETION, "api_key": "x"}))
    for body in bodies:
        answer = plain.ask(body, [JSON, slot])
        assert answer.status in {400, 401}
        answers.append(told(answer))
    plain.record(4)
    assert plain.upstream.requests == []
    assert leaks(plain, answers, caplog, capfd) == []


def test_every_wrong_credential_gets_the_same_401(plain: Gateway) -> None:
    bodies = set()
    for name, value in _SLOTS:
        answer = plain.ask(COMPLETION, [JSON, (name, value)])
        if answer.status == 401:
            bodies.add(answer.body)
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["error"]["code"] == "invalid_api_key"
