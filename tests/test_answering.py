"""A plugin may answer a call instead of an upstream; its answer goes back as an upstream's does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from proxy import Call, Deny, Record, Reply, Unavailable, hookimpl
from tests.gateway import (
    COMPLETION,
    REPLY,
    STREAMED,
    Gateway,
    chunk,
    gateway,
    refused,
)
from tests.upstream import json_reply, sse

CODENAME: Final = {"use": "regex_guard", "options": {"patterns": {"codename": "BLUEBIRD"}}}
HERE: Final = {**REPLY, "id": "here", "choices": [{**REPLY["choices"][0], "text": "a BLUEBIRD"}]}  # type: ignore[index]
CHAT: Final = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
_SAID: Final = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip
_offered: list[str] = []


@dataclass(frozen=True)
class Answers:
    """Answers, refuses or fails as it is told to."""

    do: Literal["answer", "nothing", "deny", "raise", "away", "list", "status", "nan", "header"]
    name: str = "x-from"

    @hookimpl
    def answer_request(self, call: Call) -> Any:
        _offered.append(call.id)
        body = _SAID if call.endpoint == "chat" else HERE
        answer = Reply(status=200, body=body, headers={"age": "7", "x-outgate-cache": "hit"})
        if self.do == "raise":
            raise ValueError("no")
        if self.do == "away":
            raise Unavailable("The answers are away; try again.", retry_after=4)
        results: dict[str, Any] = {
            "answer": answer.replace(notes={"from": self.name}),
            "deny": Deny("Not today.", code="not_today", status=403),
            "list": answer.replace(body=[]),
            "status": Reply(status=201, body=HERE),
            "nan": answer.with_body(created=float("nan")),
            "header": Reply(status=200, body=HERE, headers={"set-cookie": "a=b"}),
        }
        return results.get(self.do)


@dataclass(frozen=True)
class Stamps:
    """Changes every reply that it sees."""

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Reply:
        return reply.with_body(system_fingerprint="stamped")


def answers(do: str = "answer", name: str = "answers", **entry: Any) -> dict[str, Any]:
    return {
        "use": f"{__name__}:Answers",
        "name": name,
        "options": {"do": do, "name": name},
        **entry,
    }


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    _offered.clear()


def events(answer: Any) -> list[str]:
    assert answer.header("content-type") == "text/event-stream"
    return [line.removeprefix("data: ") for line in answer.body.decode().split("\n\n") if line]


def test_the_first_answer_counts_and_nothing_leaves() -> None:
    prices = [{"models": ["m"], "input": 1.0, "output": 1.0}]
    plugins = [answers("nothing", "silent"), answers(), answers("deny", "late")]
    with gateway(plugins=plugins, prices=prices) as gate:
        answer = gate.ask(COMPLETION)
        record = gate.record()
        assert gate.upstream.requests == []
    assert answer.json() == HERE
    assert (answer.header("age"), answer.header("x-outgate-cache")) == ("7", "hit")
    assert (answer.header("x-outgate-upstream"), answer.header("x-outgate-id")) == (None, record.id)
    assert (record.outcome, record.answered_by, record.upstream) == ("ok", "answers", None)
    assert (record.cost_nano, record.attempts, record.bytes_sent) == (0, 0, 0)
    assert record.usage is not None
    assert record.usage.total_tokens == 2
    assert record.finish_reasons == ("stop",)
    assert record.notes["from"] == "answers"
    verdicts = [(v.plugin, v.verdict) for v in record.verdicts if v.hook == "answer_request"]
    assert verdicts == [("silent", "pass"), ("answers", "answered")]


@pytest.mark.parametrize("asked", [False, True])
def test_an_answer_is_a_correct_stream_where_one_was_asked_for(asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    with gateway(plugins=[answers()]) as gate:
        told = events(gate.ask({**CHAT, "stream": True, **options}, path="/v1/chat/completions"))
        record = gate.record()
    assert told[-1] == "[DONE]"
    assert '"delta":{"role":"assistant","content":"hi"}' in told[0]
    assert '"chat.completion.chunk"' in told[0]
    assert sum('"total_tokens":4' in event for event in told) == asked
    assert any('"usage"' in event for event in told) == asked
    assert record.usage is not None, "the record knows what the answer says, whoever asked for it"
    assert (record.usage.total_tokens, record.stream) == (4, True)


@pytest.mark.parametrize("body", [COMPLETION, STREAMED])
def test_an_answer_passes_the_plugins_and_the_policy_as_an_upstreams_does(body: Any) -> None:
    policy = {"request": {"*": "allow"}, "response": {"codename": "redact"}}
    for more in ([CODENAME], [CODENAME, {"use": f"{__name__}:Stamps"}]):
        with gateway(plugins=[answers(), *more], policy=policy) as gate:
            answer = gate.ask(body)
            record = gate.record()
        assert b"BLUEBIRD" not in answer.body
        assert b"[CODENAME]" in answer.body
        assert (b"stamped" in answer.body) == (len(more) > 1)
        assert [f.action for f in record.findings] == ["redact"]
        assert record.answered_by == "answers"


def test_an_answer_that_policy_denies_is_refused_and_still_nobody_elses() -> None:
    policy = {"request": {"*": "allow"}, "response": {"codename": "deny"}}
    with gateway(plugins=[answers(), CODENAME], policy=policy) as gate:
        refused(gate.ask(COMPLETION), 400, "content_policy_violation")
        record = gate.record()
        assert gate.upstream.requests == []
    assert (record.outcome, record.answered_by) == ("denied", "answers")


def test_a_call_in_which_something_was_masked_is_not_offered() -> None:
    policy = {"request": {"codename": "mask"}}
    with gateway(plugins=[answers(), CODENAME], policy=policy) as gate:
        assert gate.ask({**COMPLETION, "prompt": "see BLUEBIRD"}).json() == REPLY
        assert _offered == []
        gate.ask(COMPLETION)
        assert len(_offered) == 1


def test_a_call_that_is_refused_before_is_not_offered() -> None:
    with gateway(plugins=[answers(), CODENAME]) as gate:
        refused(gate.ask({**COMPLETION, "prompt": "see BLUEBIRD"}), 400)
        refused(gate.ask(COMPLETION, [("Content-Type", "application/json")]), 401)
    assert _offered == []


def test_a_plugin_may_refuse_here() -> None:
    with gateway(plugins=[answers("deny")]) as gate:
        refused(gate.ask(COMPLETION), 403, "not_today")
        record = gate.record()
        assert gate.upstream.requests == []
    assert (record.denied_by, record.answered_by) == ("answers", None)


def test_answers_that_are_away_refuse_with_503_and_retry_after() -> None:
    with gateway(plugins=[answers("away")]) as gate:
        answer = gate.ask(COMPLETION)
    assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
    assert answer.header("retry-after") == "4"


@pytest.mark.parametrize("do", ["raise", "list", "status", "nan", "header"])
def test_a_plugin_that_fails_to_answer_denies_unless_the_operator_lets_it(do: str) -> None:
    with gateway(plugins=[answers(do)]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.upstream.requests == []
    with gateway(plugins=[answers(do, on_error="allow")]) as gate:
        assert gate.ask(COMPLETION).json() == REPLY
        assert gate.record().answered_by is None


@pytest.mark.parametrize("do", ["answer", "deny", "raise"])
def test_a_monitored_plugin_is_only_noted(do: str) -> None:
    with gateway(plugins=[answers(do, mode="monitor")]) as gate:
        assert gate.ask(COMPLETION).json() == REPLY
        (verdict,) = [v.verdict for v in gate.record().verdicts if v.hook == "answer_request"]
    assert verdict == {"answer": "monitor:answered", "deny": "monitor:deny"}.get(
        do, "monitor:error"
    )


def test_lists_of_models_can_be_answered_too() -> None:
    with gateway(plugins=[answers()]) as gate:
        assert gate.ask(path="/v1/models", method="GET").json() == HERE


def test_the_trail_tells_of_an_answer_by_its_outcome_alone(tmp_path: Path) -> None:
    with gateway(plugins=[answers()], audit={"directory": str(tmp_path / "trail")}) as gate:
        gate.ask(COMPLETION)
        record = gate.record()
    lines = b"".join(path.read_bytes() for path in sorted((tmp_path / "trail").glob("*.jsonl")))
    told = [line for line in lines.splitlines() if record.id.encode() in line]
    assert len(told) == 1
    assert b'"answered_by":"answers"' in told[0]


def limited(path: Path) -> dict[str, Any]:
    rules = [{"per": "key", "requests": "2/minute", "tokens": "1000/minute"}]
    return {"use": "rate_limit", "options": {"rules": rules, "path": str(path / "limits.db")}}


def left(gate: Gateway, what: str) -> str | None:
    return gate.ask(COMPLETION).header(f"x-ratelimit-remaining-{what}")


def test_an_answer_counts_as_a_request_and_uses_no_tokens(tmp_path: Path) -> None:
    with gateway(plugins=[limited(tmp_path), answers()]) as gate:
        first = left(gate, "tokens")
        gate.record(1)
        gate.upstream.wait_for(gate.settled)
        assert left(gate, "tokens") == first
        gate.record(2)
        assert gate.ask(COMPLETION).status == 429


def test_a_streams_usage_is_asked_of_the_upstream_where_somebody_wants_to_see_answers() -> None:
    usage = {**chunk(""), "choices": [], "usage": REPLY["usage"]}
    script = sse([chunk("a", "stop"), usage, "[DONE]"])
    watcher = {"use": "tests.test_observing:Watcher", "options": {"name": "asks"}}
    with gateway(script, plugins=[watcher]) as gate:
        assert b"usage" not in gate.ask(STREAMED).body
        sent = gate.upstream.requests[0].json()
    assert sent["stream_options"] == {"include_usage": True}


def test_nothing_is_asked_for_where_nobody_does() -> None:
    with gateway(sse([chunk("a", "stop"), "[DONE]"]), plugins=[answers("nothing")]) as gate:
        gate.ask(STREAMED)
        assert gate.upstream.requests[0].json() == STREAMED


def test_a_refusal_of_an_answer_says_that_there_was_one() -> None:
    policy = {"request": {"*": "allow"}, "response": {"codename": "deny"}}
    teller = {"use": f"{__name__}:Teller"}
    with gateway(json_reply(REPLY), plugins=[answers(), CODENAME, teller], policy=policy) as gate:
        assert gate.ask(COMPLETION).json() == {"answered": True}


@dataclass(frozen=True)
class Teller:
    """Says of a refusal whether there was an answer."""

    @hookimpl
    def rewrite_denial(self, denial: Any, reply: Reply) -> Reply:
        return reply.replace(body={"answered": denial.answered})

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        assert record.answered_by == "answers"
