"""Nothing leaves unrecorded: what is about to be sent is on disk first, and every call is there at its end."""

import time
from pathlib import Path
from typing import Any

import pytest

from proxy.audit import content, keys
from proxy.audit.reading import Query, find, search
from tests.connection import Connection, Received
from tests.gateway import COMPLETION, KEY, REPLY, STREAMED, UPSTREAM_KEY, Gateway, chunk, gateway
from tests.scripts import sse
from tests.upstream import json_reply

PROMPT = "a prompt that nobody writes down"


def audited(tmp_path: Path, *scripts: Any, mode: str = "required", **more: Any) -> Any:
    table = {"directory": str(tmp_path / "trail"), "mode": mode, **more}
    return gateway(*scripts, audit=table)


def only(tmp_path: Path) -> Any:
    calls = list(search(tmp_path / "trail", Query()))
    assert len(calls) == 1, calls
    return calls[0]


def everything(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_call_is_told_twice_before_it_leaves_and_when_it_is_over(tmp_path: Path) -> None:
    with audited(tmp_path) as gate:
        assert gate.ask({**COMPLETION, "prompt": PROMPT}).status == 200
        record = gate.record()
    call = only(tmp_path)
    assert (call.id, call.outcome, call.principal) == (record.id, "ok", "alice")
    assert call.intent is not None
    assert call.ended is not None
    assert call.fields["digest"] == record.digest
    assert call.fields["upstream"] == "main"


def test_the_intent_stands_before_the_upstream_answers(tmp_path: Path) -> None:
    seen: list[bool] = []

    def looking(connection: Connection, request: Received) -> None:
        seen.extend(call.intent is not None for call in search(tmp_path / "trail", Query()))
        json_reply(REPLY)(connection, request)

    with audited(tmp_path, looking) as gate:
        assert gate.ask(COMPLETION).status == 200
    assert seen == [True]


def test_neither_text_nor_credential_is_in_the_trail(tmp_path: Path) -> None:
    with audited(
        tmp_path, json_reply({**REPLY, "choices": [{"text": PROMPT, "index": 0}]})
    ) as gate:
        gate.ask({**COMPLETION, "prompt": PROMPT})
        gate.ask({**COMPLETION, "nonsense": 1, "n": "x"})
        gate.ask(COMPLETION, [("Authorization", "Bearer wrong-key-0123456789")])
    written = everything(tmp_path)
    for secret in (PROMPT, KEY, UPSTREAM_KEY, "wrong-key-0123456789"):
        assert secret.encode() not in written


def test_a_refused_call_is_told_once_for_nothing_was_sent(tmp_path: Path) -> None:
    with audited(tmp_path) as gate:
        assert gate.ask({"model": "m"}).status == 400
    call = only(tmp_path)
    assert (call.intent, call.outcome) == (None, "denied")


def broken(gate: Gateway, tmp_path: Path) -> None:
    """Take the trail's directory away, and have the open segment moved with it."""
    (tmp_path / "trail").rename(tmp_path / "away")
    (tmp_path / "trail").write_text("no directory")
    gate.ask(COMPLETION)
    deadline = time.monotonic() + 30
    while gate.pipeline.evidence.vitals()["audit_faults"] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)


def test_nothing_is_sent_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    with audited(tmp_path) as gate:
        assert gate.ask(COMPLETION).status == 200
        broken(gate, tmp_path)
        sent = len(gate.upstream.requests)
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "audit_unavailable")
        assert answer.header("retry-after") == "5"
        assert len(gate.upstream.requests) == sent
        assert "audit" in gate.ask(path="/readyz", method="GET").body.decode()
        (tmp_path / "trail").unlink()
        (tmp_path / "away").rename(tmp_path / "trail")
        deadline = time.monotonic() + 30
        while gate.ask(COMPLETION).status != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert gate.ask(COMPLETION).status == 200


def test_best_effort_sends_and_counts(tmp_path: Path) -> None:
    with audited(tmp_path, mode="best_effort") as gate:
        gate.ask(COMPLETION)
        broken(gate, tmp_path)
        assert gate.ask(COMPLETION).status == 200
        assert gate.pipeline.vitals()["audit_unrecorded"] >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_content_is_kept_for_the_holder_of_the_private_key_alone(
    tmp_path: Path, *, stream: bool
) -> None:
    keys.create(tmp_path / "keys")
    public = str(tmp_path / "keys" / keys.SEALING_PUBLIC)
    kept = {"to": public, "request": True, "reply": True}
    script = sse([chunk("streamed"), chunk(" text", "stop"), "[DONE]"])
    scripts = [script if stream else json_reply(REPLY)]
    with audited(tmp_path, *scripts, content=kept) as gate:
        answer = gate.ask({**(STREAMED if stream else COMPLETION), "prompt": PROMPT})
        record = gate.record()
    assert PROMPT.encode() not in everything(tmp_path)
    call = find(tmp_path / "trail", record.id)
    assert call is not None
    private = keys.sealing_private(tmp_path / "keys" / keys.SEALING_PRIVATE)
    texts = content.opened(call.fields, call.id, content.by_fingerprint([private]))
    opened = {text.side: text for text in texts}
    assert PROMPT.encode() in opened["request"].text
    assert opened["reply"].text == answer.body
    assert opened["reply"].is_whole
