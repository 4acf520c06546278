"""Calls of the past: what was kept of them in a trail, and lines of JSON that anybody can write."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit import keys
from proxy.audit.content import Side
from proxy.errors import ConfigError
from proxy.rehearsal.judging import fingerprint
from proxy.rehearsal.samples import Sample, Skipped, of_lines, of_trail
from tests.gateway import COMPLETION, REPLY, STREAMED, chunk, gateway
from tests.rehearsal.material import line
from tests.scripts import sse
from tests.upstream import Script

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
GUARD = {"use": "regex_guard", "options": {"patterns": {"ticket": "TICKET-[0-9]{4}"}}}


def recorded(
    folder: Path,
    *bodies: Any,
    scripts: tuple[Script, ...] = (),
    sides: tuple[Side, ...] = ("request", "reply"),
    most_bytes: int = 100_000,
) -> X25519PrivateKey:
    """Let a gateway record calls in ``folder``/trail; the key that opens them."""
    keys.create(folder / "keys")
    content: dict[str, Any] = {
        "to": str(folder / "keys" / keys.SEALING_PUBLIC),
        "most_bytes": most_bytes,
        "request": "request" in sides,
        "reply": "reply" in sides,
    }
    table = {"directory": str(folder / "trail"), "content": content}
    with gateway(*scripts, audit=table, plugins=[GUARD]) as gate:
        for number, body in enumerate(bodies, 1):
            gate.ask(body)
            gate.record(number)
    return keys.sealing_private(folder / "keys" / keys.SEALING_PRIVATE)


def test_a_recorded_call_is_as_it_was_sent_with_its_caller_and_its_reply(tmp_path: Path) -> None:
    key = recorded(tmp_path, COMPLETION)
    read: list[int] = []
    (sample,) = of_trail(tmp_path / "trail", [key], progress=read.append)
    assert isinstance(sample, Sample)
    assert sample.call.body == COMPLETION
    assert (sample.call.endpoint, sample.call.model) == ("completions", "m")
    assert sample.call.principal.name == "alice"
    assert json.loads(sample.reply or b"") == REPLY
    assert sample.recorded.decision.verdict == "allowed"
    assert sample.recorded.body == fingerprint(COMPLETION, None)
    assert sum(read) > 0


def test_a_stream_has_no_whole_reply(tmp_path: Path) -> None:
    key = recorded(tmp_path, STREAMED, scripts=(sse([chunk("x", "stop"), "[DONE]"]),))
    (sample,) = of_trail(tmp_path / "trail", [key])
    assert isinstance(sample, Sample)
    assert sample.reply is None
    assert sample.recorded.decision.reply == "unjudged"


def test_what_was_refused_left_nothing_to_judge(tmp_path: Path) -> None:
    key = recorded(tmp_path, {**COMPLETION, "prompt": "TICKET-4711"})
    (skipped,) = of_trail(tmp_path / "trail", [key])
    assert isinstance(skipped, Skipped)
    assert skipped.why == "nothing was sent, so nothing was kept"


@pytest.mark.parametrize(
    ("most_bytes", "sides", "why"),
    [
        (1000, ("reply",), "its request was not kept"),
        (5, ("request",), "only its beginning was kept"),
    ],
)
def test_what_was_not_kept_whole_is_not_judged(
    tmp_path: Path, most_bytes: int, sides: tuple[Side, ...], why: str
) -> None:
    key = recorded(tmp_path, COMPLETION, sides=sides, most_bytes=most_bytes)
    (skipped,) = of_trail(tmp_path / "trail", [key])
    assert isinstance(skipped, Skipped)
    assert why in skipped.why


def test_another_key_opens_nothing_and_without_one_nothing_begins(tmp_path: Path) -> None:
    recorded(tmp_path, COMPLETION)
    (skipped,) = of_trail(tmp_path / "trail", [X25519PrivateKey.generate()])
    assert isinstance(skipped, Skipped)
    assert "is sealed to key" in skipped.why
    with pytest.raises(ConfigError, match="--private-key"):
        list(of_trail(tmp_path / "trail", []))


def test_older_calls_are_left_out(tmp_path: Path) -> None:
    key = recorded(tmp_path, COMPLETION)
    now = datetime.now(UTC)
    assert len(list(of_trail(tmp_path / "trail", [key], now - timedelta(hours=1)))) == 1
    assert list(of_trail(tmp_path / "trail", [key], now + timedelta(hours=1))) == []


def lines(folder: Path, *texts: str) -> Path:
    path = folder / "samples.jsonl"
    path.write_text("".join(texts))
    return path


def test_a_line_is_a_call_with_its_caller(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        "\n",
        line(
            endpoint="chat", body=CHAT, principal="rosa", groups=["research"], headers={"X-A": "b"}
        ),
        line(endpoint="model", model="m", reply=REPLY, status=404, id="req_1"),
    )
    chat, model = of_lines(path)
    assert (chat.call.id, chat.call.body, chat.call.principal.groups) == (
        "line 2",
        CHAT,
        ("research",),
    )
    assert chat.call.headers == {"x-a": "b"}
    assert (model.call.id, model.call.model, model.status) == ("req_1", "m", 404)
    assert model.recorded.decision.reply == "shown"


def test_a_line_says_what_it_was_refused_for(tmp_path: Path) -> None:
    (sample,) = of_lines(
        lines(tmp_path, line(endpoint="chat", body=CHAT, denied_by="pii", code="x"))
    )
    decision = sample.recorded.decision
    assert (decision.verdict, decision.by, decision.code) == ("denied", "pii", "x")


def test_lines_have_times(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        *(line(endpoint="chat", body=CHAT, time=f"2026-08-0{day}T00:00:00") for day in (1, 2)),
        line(endpoint="chat", body=CHAT),
    )
    since = datetime(2026, 8, 2, tzinfo=UTC)
    assert [sample.call.id for sample in of_lines(path, since)] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "samples.jsonl:2: no JSON"),
        ("[]", "samples.jsonl:2: write an object"),
        ("{}", "samples.jsonl:2: 'endpoint' is missing"),
        (line(endpoint="chatt"), "samples.jsonl:2: endpoint = 'chatt': write one of"),
        (line(endpoint="chat", boddy={}), "unknown key 'boddy' = a table. Did you mean 'body'?"),
        (line(endpoint="chat", body=CHAT, time="noon"), "samples.jsonl:2: time = 'noon'"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, text: str, told: str) -> None:
    path = lines(tmp_path, line(endpoint="chat", body=CHAT), text)
    with pytest.raises(ConfigError) as caught:
        list(of_lines(path, datetime(2026, 8, 2, tzinfo=UTC)))
    assert told in str(caught.value)
