"""The bridge between a real gateway and a scripted upstream: one call in, chats out, one answer, one record."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, Final

import pytest
from openai.types import Completion
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from proxy.app import announcements
from proxy.bridge.crossing import must_cross
from proxy.bridge.reply import BridgedReply
from proxy.bridge.settings import Bridge
from proxy.egress import UpstreamReply
from tests.bridge.chats import (
    BRIDGED,
    USAGE,
    asked,
    by_prompt,
    chat,
    choice,
    delta,
    echoing,
    told,
)
from tests.gateway import Answer, Gateway, bearer, gateway, refused
from tests.upstream import (
    WAIT,
    Connection,
    Received,
    cut_after,
    hang_up,
    json_reply,
    silent,
    sse,
)

CALL: Final[dict[str, Any]] = {"model": "m", "prompt": "Hello"}
SEVERAL: Final[dict[str, Any]] = {"model": "m", "prompt": ["a", "b", "c"]}
ERROR: Final = {"error": {"message": "Slow down.", "type": "t", "param": None, "code": "limit"}}
DONE: Final = "[DONE]"
CLOSED: Final = "http://127.0.0.1:9/v1"


def events(answer: Answer) -> list[Any]:
    """The payloads of a stream; its last word as it stands."""
    blocks = answer.body.decode().split("\n\n")
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    return [one if one == DONE else json.loads(one) for one in data]


def text(answer: Answer, index: int = 0) -> str:
    choices = [one for event in events(answer) if event != DONE for one in event.get("choices", [])]
    return "".join(one["text"] for one in choices if one["index"] == index)


# -- who crosses -----------------------------------------------------------------------------------


def test_completions_cross_where_the_provider_has_no_route_for_them() -> None:
    chat_only, both = {"chat": "/c"}, {"chat": "/c", "completions": "/t"}
    assert must_cross(Bridge(), chat_only, "completions")
    assert not must_cross(Bridge(), both, "completions")
    assert must_cross(Bridge(always=True), both, "completions")
    assert not must_cross(Bridge(always=True), both, "chat")
    assert not must_cross(Bridge(always=True), {"completions": "/t"}, "completions")


def test_a_provider_without_that_route_needs_no_further_configuration() -> None:
    plugins = [{"use": "tests.bridge.chats:ChatOnly"}]
    with gateway(echoing(), plugins=plugins, upstream={"provider": "chat_only"}) as gate:
        answer = gate.ask(CALL)
        assert gate.upstream.requests[0].path == "/v1/chat/completions"
        assert answer.json()["choices"][0]["text"] == "[Hello]"
        refused(gate.ask({"model": "m", "input": "x"}, path="/v1/embeddings"), 404)
        notes = announcements(gate.pipeline.parts)
        assert "upstream main: completions go over the bridge, as chats" in notes


def test_a_chat_is_sent_on_as_before() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with gateway(json_reply(chat("Hello")), upstream=BRIDGED) as gate:
        assert gate.ask(body, path="/v1/chat/completions").json() == chat("Hello")
        assert gate.upstream.requests[0].json() == body
        assert gate.record().bridged == 0


# -- whole -----------------------------------------------------------------------------------------


def test_one_call_has_one_answer_one_record_and_the_head_of_the_upstreams() -> None:
    headers = [
        ("x-request-id", "up-1"),
        ("x-ratelimit-remaining-requests", "7"),
        ("set-cookie", "c"),
    ]
    with gateway(json_reply(chat("Hi"), headers=headers), upstream=BRIDGED) as gate:
        answer = gate.ask(CALL)
        record = gate.record()
    assert Completion.model_validate(answer.json()).choices[0].text == "Hi"
    assert answer.json()["id"] == record.id.replace("req_", "cmpl-")
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-request-id") == record.upstream_request_id == "up-1"
    assert answer.header("x-ratelimit-remaining-requests") == "7"
    assert answer.header("set-cookie") is None
    sent = gate.upstream.requests[0].body
    assert (record.outcome, record.bridged, record.attempts) == ("ok", 1, 1)
    assert record.bridged_digest == hashlib.sha256(sent).hexdigest()
    assert record.digest == hashlib.sha256(b'{"model":"m","prompt":"Hello"}').hexdigest()
    assert record.usage is not None
    assert record.usage.total_tokens == 5
    assert record.finish_reasons == ("stop",)


def test_prompts_go_out_as_chats_and_come_back_in_their_order() -> None:
    with gateway(echoing(), upstream=BRIDGED) as gate:
        answer = gate.ask({**SEVERAL, "n": 2}).json()
        assert sorted(map(asked, gate.upstream.requests)) == ["a", "b", "c"]
        record = gate.record()
    told = ["[a]", "[a]", "[b]", "[b]", "[c]", "[c]"]
    assert [one["text"] for one in answer["choices"]] == told
    assert [one["index"] for one in answer["choices"]] == list(range(6))
    assert answer["usage"] == {key: 3 * count for key, count in USAGE.items()}
    assert (record.bridged, record.upstream_status) == (3, 200)


class Crowd:
    """Answers like an upstream that counts how many chats it has at once."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, connection: Connection, request: Received) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        connection.pause(0.02)
        with self._lock:
            self._now -= 1
        echoing()(connection, request)


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_chats_are_under_way_at_once_than_the_operator_allows(parallel: int) -> None:
    crowd = Crowd()
    upstream = {"bridge": {"always": True, "parallel": parallel}}
    with gateway(crowd, upstream=upstream) as gate:
        prompts = [str(number) for number in range(12)]
        answer = gate.ask({"model": "m", "prompt": prompts}).json()
    assert [one["text"] for one in answer["choices"]] == [f"[{one}]" for one in prompts]
    assert 1 <= crowd.most <= parallel


@pytest.mark.parametrize("prompts", [["b"], ["a", "b", "c"], [*"acacacacacacac", "b"]])
def test_the_first_error_of_a_part_is_the_answer_with_its_status_and_headers(
    prompts: list[str],
) -> None:
    failing = json_reply(ERROR, 429, headers=[("retry-after", "7")])
    with gateway(by_prompt({"b": failing}), upstream=BRIDGED) as gate:
        answer = gate.ask({"model": "m", "prompt": prompts})
        record = gate.record()
    assert (answer.status, answer.json()) == (429, ERROR)
    assert answer.header("retry-after") == "7"
    assert (record.outcome, record.upstream_status) == ("upstream_error", 429)


def test_an_error_ends_the_other_parts() -> None:
    script = by_prompt({"a": silent(), "b": json_reply(ERROR, 500), "c": silent()})
    with gateway(script, upstream=BRIDGED) as gate:
        assert gate.ask(SEVERAL).status == 500
        gate.upstream.wait_for(lambda: gate.upstream.open_connections <= 1)


def test_a_part_that_breaks_breaks_the_call() -> None:
    with gateway(by_prompt({"b": cut_after(150, echoing())}), upstream=BRIDGED) as gate:
        error = gate.ask(SEVERAL)
        assert (error.status, error.error["code"]) == (502, "upstream_truncated")
        assert gate.record().outcome == "upstream_error"


def test_answers_are_too_large_together() -> None:
    limits = {"reply_bytes": 1000}
    with gateway(echoing(padding="x" * 300), upstream=BRIDGED, limits=limits) as gate:
        assert gate.ask(CALL).status == 200
        assert gate.ask(SEVERAL).error["code"] == "upstream_error"
        assert gate.record(2).failures[0].kind == "too_large"


@pytest.mark.parametrize(
    "reply", [chat(), chat("a", "b"), [], {"choices": [None]}, {}, chat(choice("a", 1))], ids=str
)
def test_a_chat_that_is_none_is_no_answer(reply: Any) -> None:
    with gateway(json_reply(reply), upstream=BRIDGED) as gate:
        assert gate.ask(CALL).error["code"] == "upstream_error"
        assert gate.record().failures[0].kind == "protocol"


def test_what_json_cannot_say_is_no_answer() -> None:
    reply = chat(choice("\ud800"))
    with gateway(json_reply(reply), sse([delta("\ud800"), DONE]), upstream=BRIDGED) as gate:
        assert gate.ask(CALL).error["code"] == "upstream_error"
        assert "error" in events(gate.ask({**CALL, "stream": True}))[-1]


def test_the_best_is_asked_for_whole_or_not_at_all() -> None:
    with gateway(echoing(), sse([*told("a"), DONE]), upstream=BRIDGED) as gate:
        error = refused(gate.ask({**CALL, "best_of": 2}), 400, "bridge_cannot")
        assert "leave out best_of" in error["message"]
        assert gate.ask({**CALL, "best_of": 2}).error["code"] == "upstream_error"


def test_a_refusal_of_the_bridge_sends_nothing() -> None:
    with gateway(upstream=BRIDGED) as gate:
        refused(gate.ask({**CALL, "suffix": "end"}), 400, "bridge_needs_suffix_template")
        assert gate.upstream.requests == []
        record = gate.record()
    assert (record.attempts, record.upstream, record.code) == (
        0,
        None,
        "bridge_needs_suffix_template",
    )


def test_an_error_that_comes_with_a_good_status_is_passed_on() -> None:
    with gateway(by_prompt({"b": json_reply(ERROR)}), upstream=BRIDGED) as gate:
        answer = gate.ask(SEVERAL)
        assert (answer.status, answer.json()) == (200, ERROR)
        mixed = by_prompt({"b": json_reply(ERROR)}, other=streaming("x"))
        gate.upstream.play(mixed)
        assert events(gate.ask({**SEVERAL, "stream": True}))[-1] == ERROR


def test_what_names_a_call_for_repetitions_names_each_chat_apart() -> None:
    headers = [*bearer(), ("Idempotency-Key", "k")]
    with gateway(echoing(), upstream=BRIDGED) as gate:
        gate.ask(SEVERAL, headers)
        gate.ask(CALL, headers)
        keys = [str(one.header("idempotency-key")) for one in gate.upstream.requests]
    assert (sorted(keys[:3]), keys[3]) == (["k-0", "k-1", "k-2"], "k")


# -- other upstreams -------------------------------------------------------------------------------


def entry(url: str) -> dict[str, Any]:
    return {"provider": "openai_compatible", "base_url": url, "allow_private": True, **BRIDGED}


@pytest.mark.parametrize("body", [CALL, SEVERAL], ids=["one", "several"])
def test_another_upstream_is_asked_where_no_part_can_have_arrived(body: dict[str, Any]) -> None:
    with gateway(echoing()) as other:
        upstreams = {"closed": entry(CLOSED), "open": entry(f"{other.upstream.url}/v1")}
        routes = [{"upstreams": ["closed", "open"]}]
        with gateway(upstreams=upstreams, routes=routes) as gate:
            assert gate.ask(body).status == 200
            record = gate.record()
    assert (record.upstream, [one.kind for one in record.failures]) == ("open", ["connect"])


def test_an_upstream_that_needs_no_bridge_is_recorded_without_one() -> None:
    with gateway() as other:
        native = {**entry(f"{other.upstream.url}/v1"), "bridge": {}}
        upstreams = {"closed": entry(CLOSED), "open": native}
        with gateway(upstreams=upstreams, routes=[{"upstreams": ["closed", "open"]}]) as gate:
            assert gate.ask(CALL).status == 200
            record = gate.record()
    assert (record.bridged, record.bridged_digest) == (0, None)


# -- streams ---------------------------------------------------------------------------------------


def streaming(*texts: str) -> Any:
    return sse([*told(*texts), DONE])


def test_a_stream_is_said_in_completions_and_ends_as_it_ended() -> None:
    with gateway(streaming("Hel", "lo"), upstream=BRIDGED) as gate:
        answer = gate.ask({**CALL, "stream": True})
        record = gate.record()
    *chunks, last = events(answer)
    assert last == DONE
    assert answer.header("content-type") == "text/event-stream"
    assert [one["choices"][0]["text"] for one in chunks] == ["Hel", "lo", ""]
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None, None, "stop"]
    assert {(one["id"], one["object"], one["model"]) for one in chunks} == {
        (record.id.replace("req_", "cmpl-"), "text_completion", "m-1")
    }
    assert (record.outcome, record.bridged, record.stream) == ("ok", 1, True)


def test_the_first_words_are_passed_on_while_the_rest_is_still_to_come() -> None:
    held = sse([delta("now"), WAIT, delta("later", "stop"), DONE])
    script = by_prompt({"a": held, "b": held})
    for prompt in ("a", ["a", "b"]):
        with gateway(script, upstream=BRIDGED) as gate:
            with gate.send({"model": "m", "prompt": prompt, "stream": True}) as sock:
                seen = b""
                while b'"now"' not in seen:
                    seen += sock.recv(65536)
                assert b"later" not in seen
                gate.upstream.release()
                while b"[DONE]" not in seen:
                    seen += sock.recv(65536)
            assert seen.count(b'"later"') == (1 if prompt == "a" else 2)


def test_streams_of_several_prompts_keep_their_choices_apart() -> None:
    prompts = [str(number) for number in range(12)]
    scripts = {one: sse([*told(one, "-", one), DONE], gap=0.001) for one in prompts}
    upstream = {"bridge": {"always": True, "parallel": 5}}
    with gateway(by_prompt(scripts), upstream=upstream) as gate:
        answer = gate.ask({"model": "m", "prompt": prompts, "stream": True})
    assert events(answer)[-1] == DONE
    assert [text(answer, index) for index in range(12)] == [f"{one}-{one}" for one in prompts]


@pytest.mark.parametrize("prompts", ["b", ["a", "b", "c"], [*"acacacacacacac", "b"]], ids=len)
def test_a_stream_that_breaks_is_told_and_never_looks_complete(prompts: Any) -> None:
    broken = sse([delta("be"), delta("fore")])
    script = by_prompt({"b": broken}, other=streaming("x"))
    with gateway(script, upstream=BRIDGED) as gate:
        answer = gate.ask({"model": "m", "prompt": prompts, "stream": True})
        record = gate.record()
    assert events(answer)[-1]["error"]["code"] == "upstream_truncated"
    assert DONE not in events(answer)
    assert (record.outcome, record.code) == ("truncated", "upstream_truncated")


def test_an_error_in_a_stream_is_passed_on_and_ends_it() -> None:
    script = by_prompt({"b": sse([delta("x"), ERROR])}, other=silent())
    with gateway(by_prompt({}, other=script), upstream=BRIDGED) as gate:
        answer = gate.ask({"model": "m", "prompt": "b", "stream": True})
        assert events(answer)[-1] == ERROR
        assert gate.record().outcome == "upstream_error"


def test_an_error_before_the_first_word_is_the_answer_of_the_whole_call() -> None:
    with gateway(
        by_prompt({"b": json_reply(ERROR, 429)}, other=streaming("x")), upstream=BRIDGED
    ) as gate:
        answer = gate.ask({**SEVERAL, "stream": True})
        assert (answer.status, answer.json()) == (429, ERROR)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (json_reply(ERROR, 429), "limit"),
        (json_reply({"detail": "no"}, 500), "upstream_truncated"),
        (hang_up(), "upstream_truncated"),
    ],
)
def test_a_part_that_fails_when_others_have_spoken_ends_the_stream_with_an_error(
    late: Any, said: str
) -> None:
    upstream = {"bridge": {"always": True, "parallel": 1}}
    with gateway(by_prompt({"c": late}, other=streaming("x")), upstream=upstream) as gate:
        answer = gate.ask({**SEVERAL, "stream": True})
        record = gate.record()
    assert events(answer)[-1]["error"]["code"] == said
    assert (text(answer, 0), text(answer, 1)) == ("x", "x")
    assert record.outcome in {"truncated", "upstream_error"}


def test_a_stream_without_its_last_word_gets_none_from_us() -> None:
    with gateway(sse(told("x")), upstream=BRIDGED) as gate:
        answer = gate.ask({**CALL, "stream": True})
        assert DONE not in events(answer)
        assert events(answer)[-1]["choices"][0]["finish_reason"] == "stop"
        assert gate.record().outcome == "ok"


def test_signs_of_life_are_passed_on_and_reasoning_is_one() -> None:
    script = sse([b": hello\n\n", delta(reasoning_content="Hm"), "null", *told("x"), DONE])
    with gateway(script, upstream=BRIDGED) as gate:
        answer = gate.ask({**CALL, "stream": True})
    assert answer.body.startswith(b": ping\n\n: ping\n\n: ping\n\ndata: ")
    assert text(answer) == "x"


def test_what_is_no_chat_breaks_a_stream_off() -> None:
    for wrong in ("x", "[]", delta("a", index=3)):
        with gateway(sse([delta("a"), wrong, DONE]), upstream=BRIDGED) as gate:
            assert "error" in events(gate.ask({**CALL, "stream": True}))[-1]
            assert gate.record().outcome == "truncated"


def test_a_whole_reply_to_one_who_asked_for_a_stream_is_that() -> None:
    with gateway(by_prompt({"b": streaming("x")}), upstream=BRIDGED) as gate:
        assert gate.ask({**CALL, "stream": True}).json()["choices"][0]["text"] == "[Hello]"
        mixed = gate.ask({**SEVERAL, "stream": True})
        assert [text(mixed, index) for index in range(3)] == ["[a]", "x", "[c]"]


def test_a_stream_that_nobody_expected_after_whole_replies_is_no_answer() -> None:
    upstream = {"bridge": {"always": True, "parallel": 1}}
    with gateway(by_prompt({"c": streaming("x")}), upstream=upstream) as gate:
        assert gate.ask(SEVERAL).error["code"] == "upstream_error"


# -- ended from outside ----------------------------------------------------------------------------


def wait_for_parts(gate: Gateway, count: int) -> None:
    gate.upstream.wait_for(lambda: len(gate.upstream.requests) == count)


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_that_hangs_up_ends_all_chats(stream: bool) -> None:
    with gateway(silent(), upstream=BRIDGED) as gate:
        with gate.send({**SEVERAL, "stream": stream}):
            wait_for_parts(gate, 3)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
        assert gate.record().outcome == "client_gone"


def test_a_caller_that_hangs_up_in_mid_stream_ends_all_chats() -> None:
    with gateway(sse([delta("x"), WAIT]), upstream=BRIDGED) as gate:
        with gate.send({**SEVERAL, "stream": True}) as sock:
            seen = b""
            while seen.count(b'"x"') < 3:
                seen += sock.recv(65536)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
        assert gate.record().outcome == "client_gone"


def test_the_deadline_of_the_call_ends_all_chats() -> None:
    with gateway(silent(), upstream=BRIDGED, limits={"call_seconds": 0.3}) as gate:
        assert gate.ask(SEVERAL).error["code"] == "upstream_timeout"
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def test_no_thread_of_a_call_outlives_it() -> None:
    with gateway(
        by_prompt({"b": json_reply(ERROR, 500)}, other=silent()), upstream=BRIDGED
    ) as gate:
        gate.ask(SEVERAL)
        gate.upstream.wait_for(
            lambda: not any(one.name.startswith("outgate-bridge") for one in threading.enumerate())
        )


# -- what others do to a call ------------------------------------------------------------------------


def test_policy_and_masking_see_one_call() -> None:
    guard = [{"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{2,6}"}}}]
    policy = {"request": {"ticket": "mask"}}
    with gateway(echoing(), plugins=guard, policy=policy, upstream=BRIDGED) as gate:
        body = {"model": "m", "prompt": ["my T-1234", "your T-1234"], "echo": True}
        answer = gate.ask(body).json()
        sent = list(map(asked, gate.upstream.requests))
        record = gate.record()
    told = ["my T-1234[my T-1234]", "your T-1234[your T-1234]"]
    assert [one["text"] for one in answer["choices"]] == told
    assert not any("T-1234" in one for one in sent)
    assert len(record.findings) == 2


def test_a_prompt_in_tokens_is_sent_as_the_text_that_was_scanned(tmp_path: Path) -> None:
    words = {"Hello": 0, "Ġworld": 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="Hello"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "t.json"))
    entries = [{"file": str(tmp_path / "t.json"), "send": "tokens"}]
    with gateway(echoing(), upstream=BRIDGED, tokenizers=entries) as gate:
        answer = gate.ask({"model": "m", "prompt": [[0, 1], [0]], "echo": True}).json()
    told = ["Hello world[Hello world]", "Hello[Hello]"]
    assert [one["text"] for one in answer["choices"]] == told


def test_tokens_that_nobody_can_read_are_refused() -> None:
    parameters = {"unscannable": "allow"}
    with gateway(upstream=BRIDGED, parameters=parameters) as gate:
        error = refused(gate.ask({"model": "m", "prompt": [1, 2]}), 400, "bridge_needs_tokenizer")
        assert "[[tokenizers]]" in error["message"]


def test_the_answer_has_all_that_an_upstreams_own_answer_has() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(UpstreamReply) - {"abort"} <= public(BridgedReply)
