import json
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Call, Deny, Reply, hookimpl
from tests.gateway import COMPLETION, REPLY, STREAMED, chunk, gateway
from tests.upstream import Script, cut_after, json_reply, sse, sse_event, stream

_SECRET: Final = "Bluebird"
_USAGE: Final = {**chunk(""), "choices": [], "usage": REPLY["usage"]}
_KIND: Final = ("content-type", "text/event-stream")


@dataclass(frozen=True)
class Reviewer:
    """Treats every reply as ``what`` says."""

    what: str

    @hookimpl
    def rewrite_response(self, call: Call, reply: Reply) -> Any:
        match self.what:
            case "deny":
                return Deny("Not this reply.", code="no_reply")
            case "note":
                return reply.replace(notes={"seen": call.model})
            case "status":
                return reply.replace(status=201)
            case "garbage":
                return {"text": "x"}
            case "list":
                return reply.replace(body=[1])
            case _:
                return 1 / 0


def reviewing(what: str) -> dict[str, Any]:
    return {"use": "tests.test_relay:Reviewer", "name": "reviewer", "options": {"what": what}}


GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"codename": _SECRET}}}


def whole(text: str, **more: Any) -> dict[str, Any]:
    return {**REPLY, "choices": [{**REPLY["choices"][0], "text": text}], **more}  # type: ignore[index]


def streamed(*texts: str, before: tuple[Any, ...] = ()) -> Script:
    events = [chunk(text) for text in texts]
    return sse([*before, *events, chunk("", "stop"), _USAGE, "[DONE]"])


def policed(script: Script, action: str) -> Any:
    return gateway(script, plugins=[GUARD], policy={"response": {"codename": action}})


def texts_of(body: bytes) -> str:
    """The text of a streamed reply; its events must all be valid, its end ``[DONE]``."""
    *blocks, done, end = body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    spoken = [block for block in blocks if block != b": ping"]
    payloads = [json.loads(block.removeprefix(b"data: ")) for block in spoken]
    return "".join(choice["text"] for payload in payloads for choice in payload["choices"])


def test_policy_redacts_a_whole_reply() -> None:
    with policed(json_reply(whole(f"on {_SECRET}!")), "redact") as gate:
        answer = gate.ask(COMPLETION)
        assert answer.json() == whole("on [CODENAME]!")
        (finding,) = gate.record().findings
        assert (finding.place, finding.action) == ("choices[0].text", "redact")


def test_policy_redacts_a_stream_that_was_cut_in_the_middle_of_a_match() -> None:
    with policed(streamed("on Blu", "ebi", "rd!"), "redact") as gate:
        assert texts_of(gate.ask(STREAMED).body) == "on [CODENAME]!"
        record = gate.record()
        assert (record.outcome, record.finish_reasons) == ("ok", ("stop",))
        assert record.usage is not None


def test_policy_denies_a_whole_reply() -> None:
    with policed(json_reply(whole(_SECRET)), "deny") as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (400, "content_policy_violation")
        assert _SECRET.encode() not in answer.body
        assert (gate.record().outcome, gate.record().denied_by) == ("denied", "regex_guard")


def test_policy_ends_a_stream_before_anything_of_the_match_was_sent() -> None:
    with policed(streamed("on Blue", "bird", "!"), "deny") as gate:
        answer = gate.ask(STREAMED)
        assert texts_of(answer.body) == "on "
        assert b'"finish_reason":"content_filter"' in answer.body
        record = gate.record()
        assert (record.outcome, record.code) == ("denied", "content_policy_violation")
        assert record.denied_by == "regex_guard"


def test_policy_reads_the_errors_of_an_upstream() -> None:
    error = {"error": {"message": f"{_SECRET} is down", "type": "x", "param": None, "code": None}}
    with policed(json_reply(error, 500), "redact") as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["message"]) == (500, "[CODENAME] is down")
        assert gate.record().outcome == "upstream_error"


@pytest.mark.parametrize("action", ["allow", "monitor"])
def test_policy_that_changes_nothing_passes_every_byte(action: str) -> None:
    odd = b": hi\n\ndata:" + json.dumps(chunk(_SECRET, "stop")).encode() + b"\n\ndata: [DONE]\n\n"
    with policed(stream([odd], headers=[_KIND]), action) as gate:
        assert gate.ask(STREAMED).body == odd
        assert len(gate.record().findings) == (action == "monitor")


@pytest.mark.parametrize("name", ["system_fingerprint", "obfuscation", "x-note"])
def test_what_stands_beside_the_choices_of_an_event_is_redacted(name: str) -> None:
    events: list[Any] = [
        {**chunk("a"), name: _SECRET},
        {**chunk("b"), name: "fp"},
        chunk("", "stop"),
        "[DONE]",
    ]
    with policed(sse(events), "redact") as gate:
        answer = gate.ask(STREAMED)
        assert _SECRET.encode() not in answer.body
        assert texts_of(answer.body) == "ab"


@pytest.mark.parametrize("hidden", [json.dumps(_SECRET), json.dumps([_SECRET]), _SECRET])
def test_an_event_that_is_no_object_ends_a_stream_that_is_reviewed(hidden: str) -> None:
    with policed(sse([chunk("a"), hidden, "[DONE]"]), "redact") as gate:
        answer = gate.ask(STREAMED)
        assert _SECRET.encode() not in answer.body
        assert b"[DONE]" not in answer.body
        assert gate.record().outcome == "truncated"


def test_a_plugin_denies_a_reply() -> None:
    for body in (COMPLETION, STREAMED):
        with gateway(streamed("a"), plugins=[reviewing("deny")]) as gate:
            answer = gate.ask(body)
            assert (answer.status, answer.error["code"]) == (400, "no_reply")
            assert gate.record().denied_by == "reviewer"


@pytest.mark.parametrize("what", ["status", "garbage", "raise"])
def test_a_plugin_that_breaks_on_a_reply_denies_it(what: str) -> None:
    with gateway(plugins=[reviewing(what)]) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (500, "plugin_failed")
        assert (gate.record().outcome, len(gate.upstream.requests)) == ("denied", 1)


def test_a_plugin_that_makes_a_stream_of_nothing_denies_it() -> None:
    with gateway(streamed("a"), plugins=[reviewing("list")]) as gate:
        assert gate.ask(STREAMED).status == 500
        assert gate.record().outcome == "denied"


def test_the_notes_of_a_reply_reach_the_record() -> None:
    with gateway(plugins=[reviewing("note")]) as gate:
        assert gate.ask(COMPLETION).json() == REPLY
        assert gate.record().notes == {"seen": "m"}


@pytest.mark.parametrize(
    "script",
    [
        sse([chunk("a")]),
        sse([chunk("a"), {"error": {"message": "x"}}, "[DONE]"]),
        cut_after(250, sse([chunk("a"), chunk("b"), chunk("", "stop"), "[DONE]"])),
        sse([b'data: {"a":1,"a":2}\n\n', "[DONE]"]),
        sse([b"data: [[[\n\n", "[DONE]"]),
        sse([chunk("x" * 2_000_000), "[DONE]"]),
    ],
    ids=["no end", "error", "cut", "duplicate names", "no JSON", "too large"],
)
def test_a_buffered_stream_that_is_not_complete_is_502(script: Script) -> None:
    with gateway(script, plugins=[reviewing("note")]) as gate:
        answer = gate.ask(STREAMED)
        assert (answer.status, answer.error["type"]) == (502, "server_error")
        assert gate.record().outcome == "upstream_error"
        assert gate.record().failures[0].upstream == "main"


def test_keep_alive_events_do_not_disturb_a_buffered_stream() -> None:
    odd = sse([b"data:\n\n", b"data: null\n\n", b": c\n\n", chunk("a", "stop"), "[DONE]"])
    with gateway(odd, plugins=[reviewing("note")]) as gate:
        assert gate.ask(STREAMED).body.startswith(b"data:\n\ndata: null\n\n: c\n\n")
        assert gate.record().events == 5


def test_many_small_events_are_buffered_in_little_memory() -> None:
    comments = b":\n\n" * 20_000
    with gateway(
        sse([comments, chunk("a", "stop"), "[DONE]"]), plugins=[reviewing("note")]
    ) as gate:
        assert gate.ask(STREAMED).body.startswith(comments)


def test_the_record_counts_what_the_upstream_counted() -> None:
    odd = {"prompt_tokens": 3, "completion_tokens": "4", "total_tokens": True}
    with gateway(json_reply({**REPLY, "usage": odd})) as gate:
        gate.ask(COMPLETION)
        usage = gate.record().usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, None, None)


def test_the_record_names_the_upstream_s_request() -> None:
    with gateway(json_reply(REPLY, headers=[("X-Request-Id", "r" * 5_000)])) as gate:
        answer = gate.ask(COMPLETION)
        assert answer.header("x-request-id") == "r" * 5_000
        assert gate.record().upstream_request_id == "r" * 256
        assert answer.header("x-outgate-id") == gate.record().id


def test_an_event_of_our_own_is_json_in_one_line() -> None:
    with gateway(streamed("é\u2028\n"), plugins=[reviewing("note")]) as gate:
        assert sse_event(chunk("é\u2028\n")) in gate.ask(STREAMED).body


def test_the_record_of_a_stream_that_was_reviewed_as_a_whole_tells_what_the_caller_was_told() -> (
    None
):
    events: list[Any] = [chunk("a"), chunk("", f"{_SECRET}-limit"), "[DONE]"]
    plugins = [GUARD, reviewing("note")]
    policy = {"response": {"codename": "redact"}}
    with gateway(sse(events), plugins=plugins, policy=policy) as gate:
        assert _SECRET.encode() not in gate.ask(STREAMED).body
        assert gate.record().finish_reasons == ("[CODENAME]-limit",)
