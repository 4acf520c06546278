"""A streamed reply comes out as the whole reply would have, however it was cut; nothing leaks on the way."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import hookimpl
from proxy.chain import Trail
from proxy.detect.detector import Detector
from proxy.mask import Vault
from proxy.model import Endpoint
from proxy.policy import Policy
from proxy.review import Review
from proxy.rules import Allowed, PolicyTable
from proxy.stream import assemble
from proxy.streaming import StreamReview
from tests.gateway import COMPLETION, STREAMED, Gateway, chunk, gateway
from tests.policing import CANARY, DETECTORS, call, planted, review, watch
from tests.scripts import WAIT
from tests.test_review import FAULTS
from tests.upstream import sse, stream

WATCHES: Final = tuple(map(watch, DETECTORS))
ALL: Final[dict[str, Any]] = {"*": "redact"}
GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
CHAT: Final = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
_AROUND: Final = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

Chunks = list[dict[str, Any]]


def chat(delta: Any, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One event of a streamed chat."""
    return {**_AROUND, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def sent(reviewed: StreamReview, payloads: Iterable[Any]) -> Chunks:
    """All that goes out for a stream that ends in order."""
    shown: Chunks = []
    for payload in payloads:
        shown += reviewed.see(payload)
        if reviewed.refusal is not None:
            return shown
    return shown + reviewed.finish()


def text_of(chunks: Iterable[Any], endpoint: Endpoint = "completions", index: int = 0) -> Any:
    for one in assemble(endpoint, chunks)["choices"]:
        if one["index"] == index:
            return one["text"] if endpoint == "completions" else one["message"]["content"]
    return None


def events_of(body: bytes) -> list[Any]:
    """The payloads of a stream that ended with ``[DONE]``."""
    *blocks, done, end = body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    return [json.loads(block[6:]) for block in blocks if block.startswith(b"data: ")]


# -- streamed is whole -----------------------------------------------------------------------------

VAULT: Final = Vault()
MASKS: Final = [VAULT.mask("ticket", 'T-9 "quoted"'), VAULT.mask("email", "ada@acme.example")]
WORDS: Final = [
    "T-12", "T-", "1", "2345678", "pw: ", "pw=", "abc", "hunter", "<<", ">>", "<", ">", "x" * 80, "bluebird",
    "blue\u200bbird", "ｂｌｕｅbird", "E12", "E13", "E", " ", ",", "é", "\u2028", '"', "\\", "<TICKET_1_aaaaaa>",
    *MASKS, *(mask[:5] for mask in MASKS), *(mask[5:] for mask in MASKS),
]  # fmt: skip
TEXTS: Final = st.lists(st.sampled_from(WORDS) | st.text(max_size=2), max_size=12).map("".join)
PLACES: Final[list[tuple[Endpoint, tuple[Any, ...]]]] = [
    ("completions", ("text",)),
    ("chat", ("delta", "content")),
    ("chat", ("delta", "reasoning_content")),
    ("chat", ("delta", "refusal")),
    ("chat", ("delta", "tool_calls", 0, "function", "arguments")),
    ("chat", ("delta", "tool_calls", 1, "function", "arguments")),
    ("chat", ("delta", "function_call", "arguments")),
    ("chat", ("delta", "audio", "transcript")),
    ("chat", ("delta", "odd", "deep", "er")),
]


def told(place: Sequence[Any], text: str, index: int) -> dict[str, Any]:
    """A chunk that says ``text`` at ``place`` of a choice."""
    value: Any = text
    for step in reversed(place):
        value = [{"index": step, **value}] if isinstance(step, int) else {step: value}
    return {**_AROUND, "choices": [{"index": index, "finish_reason": None, **value}]}


@st.composite
def streams(draw: Any) -> tuple[Endpoint, Chunks]:
    """Texts in some places of some choices, cut anywhere and mixed at will."""
    endpoint: Endpoint = draw(st.sampled_from(["completions", "chat"]))
    places = [place for kind, place in PLACES if kind == endpoint]
    queues = []
    for index in range(draw(st.integers(1, 3))):
        chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True))
        for place in chosen:
            text = draw(TEXTS)
            cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
            parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            queues.append([told(place, part, index) for part in parts])
    chunks: Chunks = []
    while queues := [queue for queue in queues if queue]:
        chunks.append(draw(st.sampled_from(queues)).pop(0))
    indexes = dict.fromkeys(one["choices"][0]["index"] for one in chunks)
    if draw(st.booleans()):
        empty: Any = {"text": ""} if endpoint == "completions" else {"delta": {}}
        chunks += [
            {**_AROUND, "choices": [{"index": i, **empty, "finish_reason": "stop"}]}
            for i in indexes
        ]
    if draw(st.booleans()):
        chunks.append({**_AROUND, "choices": [], "usage": {"total_tokens": 1}})
    return endpoint, chunks


def normal(body: dict[str, Any]) -> Any:
    """Without the difference between a text that is empty and one that is not there."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            members = {key: plain(item) for key, item in value.items()}
            return {key: item for key, item in members.items() if item not in ("", None, {})}
        return [plain(item) for item in value] if isinstance(value, list) else value

    choices = [{k: v for k, v in one.items() if k != "logprobs"} for one in body["choices"]]
    return plain({**body, "choices": choices})


@pytest.mark.parametrize("vault", [None, VAULT], ids=["plain", "masked"])
@pytest.mark.parametrize(
    "rules", [{"*": "redact"}, {"ticket": "monitor"}, {}], ids=["redact", "monitor", "none"]
)
@settings(max_examples=300, deadline=None)
@given(streams())
def test_streamed_is_whole(
    rules: dict[str, Any], vault: Vault | None, made: tuple[Endpoint, Chunks]
) -> None:
    endpoint, chunks = made
    whole_trail, trail = Trail(), Trail()
    whole, _ = review(*WATCHES, vault=vault, trail=whole_trail, **rules).whole(
        assemble(endpoint, chunks)
    )
    reviewed = StreamReview(review(*WATCHES, vault=vault, trail=trail, **rules))
    assert normal(assemble(endpoint, sent(reviewed, chunks))) == normal(whole)
    assert reviewed.refusal is None
    kinds = [sorted(found.kind for found in each.findings) for each in (whole_trail, trail)]
    assert kinds[0] == kinds[1]


@settings(max_examples=300, deadline=None)
@given(streams())
def test_a_stream_is_denied_exactly_when_the_whole_is_and_what_left_before_is_the_same(
    made: tuple[Endpoint, Chunks],
) -> None:
    endpoint, chunks = made
    rules: dict[str, Any] = {"ticket": "deny", "*": "redact"}
    whole = assemble(endpoint, chunks)
    _, refusal = review(*WATCHES, **rules).whole(whole)
    redacted, _ = review(*WATCHES, **{**ALL, "ticket": "monitor"}).whole(whole)
    reviewed = StreamReview(review(*WATCHES, **rules))
    shown = sent(reviewed, chunks)
    assert (reviewed.refusal is None) == (refusal is None)
    if refusal is not None:
        said = assemble(endpoint, shown)
        assert {one["finish_reason"] for one in shown[-1]["choices"]} == {"content_filter"}
        assert not re.search(r"T-[0-9]", json.dumps(said))
        for one in said["choices"]:
            (complete,) = (other for other in redacted["choices"] if other["index"] == one["index"])
            text = one.get("text") or (one.get("message") or {}).get("content") or ""
            expected = complete.get("text") or (complete.get("message") or {}).get("content") or ""
            assert expected.startswith(text)


@pytest.mark.parametrize(
    "text",
    ["on T-12, pw: hunter2 <<a b>> E12 bluebird", f"a {MASKS[0]}{MASKS[1]} b"],
    ids=["findings", "masks"],
)
def test_every_cut_of_a_text_gives_the_same(text: str) -> None:
    whole, _ = review(*WATCHES, vault=VAULT, **ALL).whole({"text": text})
    for first in range(len(text)):
        for second in range(first, len(text), 3):
            reviewed = StreamReview(review(*WATCHES, vault=VAULT, **ALL))
            parts = [text[:first], text[first:second], text[second:]]
            assert text_of(sent(reviewed, map(chunk, parts))) == whole["text"]


def test_streamed_is_whole_through_a_running_gateway() -> None:
    maker = random.Random(5)
    policy = {"response": {"canary": "redact"}, "request": {"canary": "mask"}}
    texts, scripts = [], []
    for _ in range(25):
        texts.append(
            "".join(maker.choices([CANARY, "CAN", "ARY-", "77", " ", "x", "é\u2028"], k=12))
        )
        places = sorted(maker.sample(range(len(texts[-1])), 5))
        cuts = zip([0, *places], [*places, len(texts[-1])], strict=True)
        chunks = [chunk(texts[-1][a:b]) for a, b in cuts]
        raw = b"".join(
            b"data: " + json.dumps(each).encode() + b"\n\n" for each in [*chunks, chunk("", "stop")]
        )
        at = sorted(maker.sample(range(len(raw)), 4))
        pieces = [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]
        scripts.append(
            stream([*pieces, b"data: [DONE]\n\n"], headers=[("content-type", "text/event-stream")])
        )
    with gateway(*scripts, plugins=[GUARD], policy=policy) as gate:
        for text in texts:
            shown = text_of(events_of(gate.ask(STREAMED).body))
            assert shown == re.sub("CANARY-[0-9]{4}", "[CANARY]", text)


# -- no place lets anything in ---------------------------------------------------------------------

_LOGPROBS: Final = {
    "tokens": ["a"],
    "token_logprobs": [-1],
    "top_logprobs": [{"a": -1}],
    "text_offset": [0],
}
_TOKEN: Final = {
    "token": "a",
    "logprob": -1,
    "bytes": [97],
    "top_logprobs": [{"token": "b", "bytes": [98]}],
}
SHAPES: Final[list[tuple[str, Any, dict[str, Any]]]] = [
    ("/v1/completions", STREAMED, {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "fp",
        "obfuscation": "zz", "usage": {"total_tokens": 1, "details": {"a": "b"}}, "prompt_token_ids": [1],
        "choices": [
            {"index": 0, "text": "a", "logprobs": _LOGPROBS, "finish_reason": None, "stop_reason": None,
             "token_ids": [1], "prompt_logprobs": [{"1": {"decoded_token": "x"}}]},
            {"index": 1, "text": "b", "logprobs": None, "finish_reason": None},
        ],
    }),
    ("/v1/chat/completions", CHAT, {
        **_AROUND, "service_tier": "default", "prompt_logprobs": [{"1": {"decoded_token": "x"}}], "usage": None,
        "choices": [{
            "index": 0, "finish_reason": None, "logprobs": {"content": [_TOKEN]},
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
            "delta": {
                "role": "assistant", "content": "a", "refusal": "b", "reasoning_content": "c",
                "function_call": {"name": "f", "arguments": "{"},
                "tool_calls": [{"index": 0, "id": "1", "type": "function",
                                "function": {"name": "f", "arguments": "{"}}],
                "parts": [{"type": "text", "text": "d"}], "odd": {"deep": [{"er": None}, ["e"]]},
            }}],
    }),
    ("/v1/completions", STREAMED, {"error": {"message": "down", "type": "t", "param": None, "code": None}}),
]  # fmt: skip
_PIECES: Final = (CANARY[:3], CANARY[3:7], CANARY[7:9], CANARY[9:])
#: What says itself anew in every chunk, so that no client joins it.
_NOT_JOINED: Final = re.compile(
    r"^\.(?!choices)|\.(finish_reason|stop_reason|index|type|severity|filtered)$|^\.choices(\[\d\])?$"
)


def accumulated(payloads: list[Any]) -> Any:
    """What a client reads that joins every text of a choice, also those that are said again."""
    whole: dict[Any, Any] = {}
    for at, payload in enumerate(payloads):
        for choice in payload.get("choices") or [] if isinstance(payload, dict) else []:
            said = {key: choice[key] for key in ("delta", "text") if key in choice}
            joined(whole.setdefault(str(choice.get("index", at)), {}), said)
    return whole


def joined(known: dict[Any, Any], value: Any) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        name = item.get("index", key) if isinstance(item, dict) else key
        if isinstance(item, dict | list):
            joined(known.setdefault(f"{name} ", {}), item)
        elif isinstance(item, str) and key not in ("format", "object", "type"):
            known[str(name)] = known.get(str(name), "") + item


def asked_all(
    shape: Any, body: Any, path: str, action: str, cases: list[tuple[str, list[Any]]]
) -> None:
    """Ask for every case; none of the answers may hold a canary, in one event or in what they add up to."""
    last = (
        []
        if "error" in shape
        else [{**_AROUND, "choices": [{"index": 0, "finish_reason": "stop"}]}]
    )
    scripts = [sse([*events, *last, "[DONE]"]) for _, events in cases]
    endpoint: Endpoint = "chat" if "chat" in path else "completions"
    with gateway(*scripts, plugins=[GUARD], policy={"response": {"canary": action}}) as gate:
        for at, events in cases:
            answer = gate.ask(body, path=path)
            assert answer.status == 200
            assert CANARY not in answer.body.decode(), (at, events)
            payloads = events_of(answer.body)
            whole = json.dumps(assemble(endpoint, payloads))
            assert CANARY not in whole, (at, events)
            assert CANARY not in json.dumps(accumulated(payloads)), (at, events)
            outcome = gate.record(len(gate.records) or 1).outcome
            assert outcome in ("ok", "denied", "upstream_error"), at
        assert CANARY not in repr(gate.records)


@pytest.mark.parametrize("action", ["deny", "redact"])
@pytest.mark.parametrize(("path", "body", "shape"), SHAPES, ids=["completions", "chat", "error"])
def test_no_place_of_any_chunk_lets_a_canary_in(
    path: str, body: Any, shape: dict[str, Any], action: str
) -> None:
    cases = [(at, [planted_shape]) for at, planted_shape in planted(shape)]
    asked_all(shape, body, path, action, cases)


@pytest.mark.parametrize("action", ["deny", "redact"])
@pytest.mark.parametrize(("path", "body", "shape"), SHAPES[:2], ids=["completions", "chat"])
def test_no_place_of_any_stream_lets_a_canary_in_that_comes_in_pieces(
    path: str, body: Any, shape: dict[str, Any], action: str
) -> None:
    parts = [list(planted(shape, piece)) for piece in _PIECES]
    cases = [
        (at, [variants[i][1] for variants in parts])
        for i, (at, _) in enumerate(parts[0])
        if not _NOT_JOINED.search(at)
    ]
    assert len(cases) > 10
    asked_all(shape, body, path, action, cases)


def test_a_canary_that_only_tokens_spell_out_goes_with_the_text_it_repeats() -> None:
    logprobs = {
        "tokens": ["CAN", "ARY-", "7781"],
        "top_logprobs": [{"CAN": -1}, {"ARY-": -1}, {CANARY: 1}],
    }
    first = {**chunk(CANARY), "choices": [{**chunk(CANARY)["choices"][0], "logprobs": logprobs}]}
    for action in ("deny", "redact"):
        with gateway(
            sse([first, chunk("", "stop"), "[DONE]"]),
            plugins=[GUARD],
            policy={"response": {"canary": action}},
        ) as gate:
            answer = gate.ask(STREAMED)
            assert b"ARY" not in answer.body.replace(b"[CANARY]", b"")


# -- names -----------------------------------------------------------------------------------------

NAMED: Final[list[tuple[Any, ...]]] = [
    ("delta", "tool_calls", 0, "function", "name"),
    ("delta", "tool_calls", 1, "custom", "name"),
    ("delta", "function_call", "name"),
    ("delta", "name"),
]


def at(body: Any, place: tuple[Any, ...]) -> Any:
    for step in ("message", *place[1:]):
        body = body[0] if isinstance(step, int) else body[step]
    return body


@settings(max_examples=300, deadline=None)
@given(st.data(), TEXTS.filter(bool), st.sampled_from(NAMED), st.sampled_from(["redact", "deny"]))
def test_a_name_is_what_the_whole_name_is_wherever_it_is_cut(
    data: Any, text: str, place: tuple[Any, ...], action: str
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=5)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    parts = [part for part in parts if part]
    # What is said twice is a name that is said again: no client can tell.
    if len(parts) > 1 and parts[0] == parts[1]:
        parts = [text]
    others = data.draw(
        st.lists(st.sampled_from(["x", "y"]), min_size=len(parts), max_size=len(parts))
    )
    chunks: Chunks = []
    for part, other in zip(parts, others, strict=True):
        chunks += [told(place, part, 0), told(("delta", "content"), other, 1)]
    chunks += [told((*place[:-1], "arguments"), "{ }", 0), chat({}, "stop"), chat({}, "stop", 1)]
    rules: dict[str, Any] = {"*": action}
    whole, refusal = review(*WATCHES, vault=VAULT, **rules).whole(assemble("chat", chunks))
    reviewed = StreamReview(review(*WATCHES, vault=VAULT, **rules))
    shown = sent(reviewed, chunks)
    assert (reviewed.refusal is None) == (refusal is None)
    if refusal is None:
        made = assemble("chat", shown)
        assert normal(made) == normal(whole)
        assert at(made["choices"][0], place) == at(whole["choices"][0], place)
        pieces = [one for one in shown if '"name": "' in json.dumps(one).replace('"name": ""', "")]
        assert len(pieces) == 1
    else:
        assert '"name": "' not in json.dumps(shown).replace('"name": ""', "")


@pytest.mark.parametrize("action", ["redact", "deny"])
@pytest.mark.parametrize(
    "place",
    [*(place for kind, place in PLACES if kind == "chat"), *NAMED],
    ids=lambda place: ".".join(map(str, place)),
)
def test_a_canary_in_any_text_of_a_delta_is_found_wherever_it_is_cut_in_two(
    place: tuple[Any, ...], action: str
) -> None:
    rules: dict[str, Any] = {"*": action}
    canary = watch(Detector.regex("canary", "CANARY-[0-9]{4}"))
    for cut in range(1, len(CANARY)):
        parts = [told(place, CANARY[:cut], 0), told(place, CANARY[cut:], 0)]
        reviewed = StreamReview(review(canary, **rules))
        shown = sent(reviewed, [*parts, chat({}, "stop")])
        assert (reviewed.refusal is None) == (action == "redact")
        told_all = str(accumulated(shown))
        assert ("'[CANARY]'" in told_all) == (action == "redact")
        assert "CAN" not in told_all.replace("[CANARY]", "")


@pytest.mark.parametrize("key", ["id", "role"])
def test_a_canary_in_an_id_never_comes_in_wherever_it_is_cut_in_two(key: str) -> None:
    canary = watch(Detector.regex("canary", "CANARY-[0-9]{4}"))
    for cut in range(1, len(CANARY)):
        reviewed = StreamReview(review(canary, **ALL))
        parts = [told(("delta", key), part, 0) for part in (CANARY[:cut], CANARY[cut:])]
        shown = sent(reviewed, [*parts, chat({}, "stop")])
        assert reviewed.refusal is not None
        assert CANARY[cut:] not in str(accumulated(shown)).replace("assistant", "")


def test_a_name_comes_with_its_call_as_soon_as_something_follows_it() -> None:
    opening = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    reviewed = redacting()
    assert reviewed.see(chat({"role": "assistant", "content": None})) != []
    assert reviewed.see(chat({"tool_calls": [opening]})) == []
    said = {"tool_calls": [{"index": 0, "function": {"arguments": "{ "}}]}
    assert reviewed.see(chat(said)) == [chat({"tool_calls": [opening]}), chat(said)]
    assert reviewed.see(chat(said)) == [chat(said)]
    whole = redacting()
    assert whole.see(chat({"tool_calls": [opening]}, "tool_calls")) == [
        chat({"tool_calls": [opening]}, "tool_calls")
    ]
    ended = redacting()
    ended.see(chat({"tool_calls": [opening]}))
    assert ended.finish() == [chat({"tool_calls": [opening]})]


def test_a_name_and_an_id_that_are_said_in_every_chunk_are_shown_in_every_chunk() -> None:
    def said(arguments: str) -> Any:
        function = {"name": "look_up", "arguments": arguments}
        return chat({"tool_calls": [{"index": 0, "id": "call_1", "function": function}]})

    chunks = [said(piece) for piece in ("{", '"a"', ": ", "1, ", "}")]
    assert sent(redacting(), chunks) == chunks


def test_ids_are_not_waited_for_and_never_add_up_to_a_finding() -> None:
    reviewed = redacting()
    for number in range(5):
        said = chat({"tool_calls": [{"index": 0, "id": f"random_{number}"}]})
        assert reviewed.see(said) == [said]
    for parts in (("T", "-", "12"), ("ab T-", "1 cd")):
        for key in ("id", "role"):
            reviewed = redacting(ticket="deny", **ALL)
            shown = sent(reviewed, [chat({key: part}) for part in parts])
            assert reviewed.refusal is not None
            assert "1" not in json.dumps([one["choices"][0].get("delta") for one in shown])
    watched = StreamReview(review(*WATCHES, ticket="monitor"))
    assert len(sent(watched, [chat({"id": "T-"}), chat({"id": "12"})])) == 2


@pytest.mark.parametrize(
    "pieces",
    [("T-1", "x", "T-", "12"), ("1111", "1111", "1111"), ("T-", None, "12"), ("T-", None, "T-", None, "1")],
)  # fmt: skip
def test_a_name_that_goes_on_after_its_end_adds_up_to_no_finding(pieces: Any) -> None:
    number = watch(Detector.regex("number", "1{12}"))
    reviewed = redacting(*WATCHES, number, **ALL)
    place = NAMED[0]
    chunks = [
        told((*place[:-1], "arguments"), " ", 0) if piece is None else told(place, piece, 0)
        for piece in pieces
    ]
    shown = sent(reviewed, chunks)
    text = str(accumulated(shown))
    assert not re.search(r"T-[0-9]|1{12}", text)
    assert reviewed.refusal is None or reviewed.refusal[0].code == "reply_not_reviewable"


def test_names_without_an_end_are_withheld() -> None:
    for size in (9_000, 1):
        reviewed = redacting()
        for number in range(1_000):
            reviewed.see(told(NAMED[3], f"{number:x}" * size, 0))
            if reviewed.refusal:
                break
        assert reviewed.refusal is not None


# -- denial in the middle --------------------------------------------------------------------------


def policed(*events: Any, action: str = "deny", request: str = "allow") -> Any:
    rules = {"response": {"canary": action}, "request": {"canary": request}}
    return gateway(sse([*events]), plugins=[GUARD], policy=rules)


def test_a_denial_ends_the_stream_as_its_clients_know_it() -> None:
    events = [
        chunk("fine so CAN"),
        chunk("ARY-77"),
        chunk("b", index=1),
        chunk("81 and more"),
        chunk("never"),
        "[DONE]",
    ]
    with policed(*events) as gate:
        answer = gate.ask(STREAMED)
        *_, last = payloads = events_of(answer.body)
        assert text_of(payloads) == "fine so "
        assert text_of(payloads, index=1) == "b"
        assert [(c["index"], c["finish_reason"], c["text"]) for c in last["choices"]] == [
            (0, "content_filter", ""), (1, "content_filter", ""),
        ]  # fmt: skip
        assert {key: last[key] for key in ("id", "object", "model", "created")} == {
            key: chunk("")[key] for key in ("id", "object", "model", "created")
        }
        assert b"CAN" not in answer.body
        record = gate.record()
        assert (record.outcome, record.code, record.denied_by) == (
            "denied", "content_policy_violation", "regex_guard",
        )  # fmt: skip
        assert record.finish_reasons == ("content_filter", "content_filter")


@pytest.mark.parametrize("end", [["[DONE]"], []], ids=["done", "closed"])
def test_what_only_the_end_decides_is_denied_there(end: list[Any]) -> None:
    waits = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{1,9}"}}}
    closing = (
        []
        if end
        else [{**chunk("", "stop"), "choices": [{"index": 1, "text": "", "finish_reason": "stop"}]}]
    )
    for action, text in (("deny", "a "), ("redact", "a [CANARY]")):
        events = [chunk(f"a {CANARY}"), *closing, *end]
        with gateway(sse(events), plugins=[waits], policy={"response": {"canary": action}}) as gate:
            answer = gate.ask(STREAMED)
            if end:
                payloads = events_of(answer.body)
                assert text_of(payloads) == text
                assert answer.body.count(b"[DONE]") == 1
                assert gate.record().outcome == ("denied" if action == "deny" else "ok")
            else:
                assert CANARY not in answer.body.decode()
                assert b"upstream_error" in answer.body or b"error" in answer.body


def test_a_choice_that_shares_a_chunk_with_a_denied_one_is_still_sent() -> None:
    both = {
        **chunk("x"),
        "choices": [{"index": 1, "text": "good, "}, {"index": 0, "text": f"a, {CANARY}, b"}],
    }
    with policed(both, "[DONE]") as gate:
        payloads = events_of(gate.ask(STREAMED).body)
        assert (text_of(payloads), text_of(payloads, index=1)) == ("a, ", "good, ")


def test_what_is_redacted_up_to_the_denied_is_not_shown_either() -> None:
    wide, narrow = watch(Detector.regex("wide", "ab T-1")), watch(Detector.regex("narrow", "T-12"))
    reviewed = StreamReview(review(wide, narrow, wide="redact", narrow="deny"))
    assert text_of(sent(reviewed, [chunk("x ab T-12")])) == "x "


# -- masks -----------------------------------------------------------------------------------------


def echoing(gate_request: Any, gate: Gateway) -> str:
    """What stood for the canary in what was sent."""
    gate.ask(gate_request)
    found = re.search(rb"<CANARY_1_[a-z2-7]{6}>", gate.upstream.requests[-1].body)
    assert found is not None
    return found[0].decode()


def test_a_mask_comes_back_as_what_it_stands_for_however_it_is_cut() -> None:
    masks: list[str] = []

    def echo(connection: Any, request: Any) -> None:
        mask = re.search(rb"<CANARY_1_[a-z2-7]{6}>", request.body)
        assert mask is not None
        masks.append(mask[0].decode())
        text = f"a {masks[-1]} b"
        cut = len(masks) % len(text)
        parts = [text[:cut], text[cut : cut + 3], text[cut + 3 :]]
        events = [chunk(part, index=i) for part in parts for i in (0, 1)]
        sse([*events, chunk("", "stop"), chunk("", "stop", 1), "[DONE]"])(connection, request)

    with gateway(echo, plugins=[GUARD], policy={"request": {"canary": "mask"}}) as gate:
        for _ in range(22):
            payloads = events_of(gate.ask({**STREAMED, "prompt": f"say {CANARY}"}).body)
            assert text_of(payloads) == text_of(payloads, index=1) == f"a {CANARY} b"
        assert len(set(masks)) == 22
        assert all(CANARY.encode() not in request.body for request in gate.upstream.requests)


def test_masks_in_the_arguments_of_a_tool_are_put_back_as_json() -> None:
    arguments = json.dumps({"q": f"find {MASKS[0]}", "n": 1})
    for cut in range(len(arguments)):
        reviewed = StreamReview(review(*WATCHES, vault=VAULT))
        parts = (arguments[:cut], arguments[cut:])
        shown = sent(reviewed, [told(PLACES[4][1], part, 0) for part in parts])
        (made,) = assemble("chat", shown)["choices"][0]["message"]["tool_calls"]
        assert json.loads(made["function"]["arguments"]) == {"q": 'find T-9 "quoted"', "n": 1}


@given(st.data())
def test_masks_that_are_not_of_this_call_stay_as_they_are(data: Any) -> None:
    other = Vault().mask("ticket", 'T-9 "quoted"')
    text = data.draw(
        st.sampled_from([other, MASKS[0][:-1], MASKS[0].lower(), "<TICKET_1_>", "<TICKET"])
    )
    cut = data.draw(st.integers(0, len(text)))
    reviewed = StreamReview(review(vault=VAULT))
    assert text_of(sent(reviewed, [chunk(text[:cut]), chunk(text[cut:])])) == text


# -- what is held, and when it comes ---------------------------------------------------------------


def redacting(*watches: Any, **rules: Any) -> StreamReview:
    return StreamReview(review(*(watches or WATCHES), **(rules or ALL)))


def test_held_text_comes_with_the_finish_reason() -> None:
    reviewed = redacting()
    assert reviewed.see(chunk("T-")) == []
    (last,) = reviewed.see(chunk("", "stop"))
    assert (last["choices"][0]["text"], last["choices"][0]["finish_reason"]) == ("T-", "stop")
    assert reviewed.finish() == []


def test_held_text_of_many_places_comes_where_it_belongs() -> None:
    reviewed = redacting()
    for place in (place for kind, place in PLACES if kind == "chat"):
        assert reviewed.see(told(place, "T-", 0)) == []
    (last,) = reviewed.see(chat({}, "stop"))
    delta = last["choices"][0]["delta"]
    assert delta == {
        "content": "T-", "reasoning_content": "T-", "refusal": "T-", "function_call": {"arguments": "T-"},
        "audio": {"transcript": "T-"}, "odd": {"deep": {"er": "T-"}},
        "tool_calls": [{"index": i, "function": {"arguments": "T-"}} for i in (0, 1)],
    }  # fmt: skip


def test_held_text_comes_with_done_when_the_stream_does_not_say_why_it_ends() -> None:
    with policed(chunk("CANARY-"), "[DONE]") as gate:
        (only,) = events_of(gate.ask(STREAMED).body)
        assert only == {**chunk("CANARY-"), "choices": [{**chunk("CANARY-")["choices"][0]}]}


def test_held_text_comes_when_a_complete_stream_is_closed_without_done() -> None:
    # Choice 1 still holds something when the only choice with a reason has ended: finish flushes per choice.
    with policed(chunk("CANARY-", "stop"), action="redact") as gate:
        body = gate.ask(STREAMED).body
        assert text_of([json.loads(body.removeprefix(b"data: "))]) == "CANARY-"
        assert gate.record().outcome == "ok"


def test_a_stream_that_is_cut_drops_what_is_held_and_says_so() -> None:
    with policed(chunk("so CANARY-77"), action="redact") as gate:
        answer = gate.ask(STREAMED)
        assert b"CAN" not in answer.body
        assert json.loads(answer.body.strip().rsplit(b"data: ", 1)[1])["error"]
        assert b"[DONE]" not in answer.body
        assert gate.record().outcome == "truncated"


def test_a_stream_that_is_held_back_is_alive() -> None:
    with policed(
        chunk("CANARY-"),
        b": could say CANARY-7781\n\n",
        b"data: null\n\n",
        chunk("", "stop"),
        "[DONE]",
    ) as gate:
        body = gate.ask(STREAMED).body
        assert body.startswith(b": ping\n\n: ping\n\n: ping\n\ndata: {")
        assert text_of(events_of(body)) == "CANARY-"


def test_what_one_tool_call_holds_comes_in_one_item() -> None:
    reviewed = redacting()
    reviewed.see(
        chat({"tool_calls": [{"index": 0, "custom": "T-", "function": {"arguments": "E1"}}]})
    )
    (last,) = reviewed.see(chat({}, "stop"))
    (item,) = last["choices"][0]["delta"]["tool_calls"]
    assert item == {"index": 0, "custom": "T-", "function": {"arguments": "E1"}}


def test_allowed_texts_and_our_own_masks_flow() -> None:
    anything = watch(Detector.regex("any", "<[A-Za-z0-9_]{1,40}>"))
    table = PolicyTable(response={"*": "deny"}, allowed=Allowed(values=("T-1",)))
    policy = Policy(table, [anything, watch()])
    reviewed = StreamReview(Review(policy, call(), VAULT, Trail()))
    parts = ["a T-", f"1, {MASKS[1][:4]}", f"{MASKS[1][4:]}, ", "<foreign>"]
    assert text_of(sent(reviewed, map(chunk, parts))) == "a T-1, ada@acme.example, "
    assert reviewed.refusal is not None


def test_usage_comes_with_the_chunk_that_is_held_back() -> None:
    reviewed = redacting()
    usage = {"total_tokens": 1}
    assert reviewed.see({**chunk("T-"), "usage": usage}) == [
        {**chunk("T-"), "usage": usage, "choices": []}
    ]


def test_a_text_that_goes_on_after_its_end_is_withheld() -> None:
    reviewed = redacting()
    reviewed.see(chunk("T-", "stop"))
    (last,) = reviewed.see(chunk("12"))
    assert last["choices"][0]["text"] == ""
    assert reviewed.refusal is not None
    assert reviewed.refusal[0].code == "reply_not_reviewable"


def test_what_is_said_again_after_the_end_without_a_text_passes() -> None:
    reviewed = redacting()
    filtered = {"hate": {"severity": "safe"}}
    said = {
        **chunk("", "stop"),
        "choices": [{"index": 0, "text": "", "content_filter_results": filtered}],
    }
    assert reviewed.see(chunk("a", "stop"))
    assert reviewed.see(said) == reviewed.see(said) == [said]
    assert reviewed.refusal is None


def test_a_stream_of_too_many_texts_is_withheld() -> None:
    for maker in (lambda i: {"x": [{"index": i, "y": "T-"}]}, lambda i: {f"x{i}": "a"}):
        reviewed = redacting()
        for number in range(5_000):
            reviewed.see(chat(maker(number)))
            if reviewed.refusal:
                break
        assert reviewed.refusal is not None


# -- names, numbers, and other shapes --------------------------------------------------------------


def test_names_that_are_redacted_alike_stay_apart() -> None:
    reviewed = redacting()
    shown = sent(
        reviewed, [chat({"T-1": "a, ", "T-2": "b, "}), chat({"T-2": "c", "T-1": "d"}, "stop")]
    )
    message = assemble("chat", shown)["choices"][0]["message"]
    assert (message["[TICKET]"], message["[TICKET]#2"]) == ("a, d", "b, c")


def test_a_denied_name_ends_the_stream() -> None:
    reviewed = redacting(ticket="deny")
    shown = sent(reviewed, [chat({"content": "a, "}), chat({"T-1": "a"})])
    assert reviewed.refusal is not None
    assert "T-1" not in json.dumps(shown)
    assert shown[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "content_filter",
    }


def test_padding_keeps_its_length_and_nothing_else() -> None:
    (shown,) = redacting().see({**chunk("a, "), "obfuscation": "T-12"})
    assert shown["obfuscation"] == "xxxx"


def test_what_is_found_in_every_chunk_is_recorded_once() -> None:
    trail = Trail()
    reviewed = StreamReview(review(*WATCHES, trail=trail, **ALL))
    shown = [reviewed.see({**chunk("a, "), "model": "T-1"})[0]["model"] for _ in range(5)]
    assert shown == ["[TICKET]"] * 5
    assert len(trail.findings) == 1


def test_whole_calls_without_an_index_are_kept_apart() -> None:
    def whole(number: int) -> dict[str, Any]:
        return {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "f", "arguments": "T-"},
        }

    reviewed = redacting()
    chunks = [
        chat({"tool_calls": [whole(0), whole(1)]}),
        chat({"tool_calls": [whole(2)]}),
        chat({}, "stop"),
    ]
    made = assemble("chat", sent(reviewed, chunks))["choices"][0]["message"]["tool_calls"]
    assert [one["function"]["arguments"] for one in made] == ["T-", "T-", "T-"]


@pytest.mark.parametrize(
    ("odd", "choices"),
    [
        ({"choices": None}, None),
        ({"choices": "T-1"}, None),
        ({"choices": {"T-1": 1}}, None),
        ({"choices": ["T-1", ["T-1"], None]}, []),
        ({"choices": [{"index": "T-1", "text": "x, "}]}, [{"index": "[TICKET]", "text": "x, "}]),
        ({"choices": [{"index": [1], "text": "T-1,"}]}, [{"index": [1], "text": "[TICKET],"}]),
        ({"choices": [{"index": 0, "text": ["T-1,"]}]}, [{"index": 0, "text": ["[TICKET],"]}]),
    ],
)
def test_an_odd_chunk_lets_nothing_in(odd: Any, choices: Any) -> None:
    shown = [one.get("choices") for one in redacting().see(odd)]
    assert shown == ([choices] if choices or choices is None else [])


def test_held_texts_of_a_list_come_at_its_end() -> None:
    reviewed = redacting()
    reviewed.see(chat({"x": ["T-"], "content": None}))
    (last,) = reviewed.finish()
    assert last["choices"][0]["delta"] == {"x": ["T-"]}


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices":[{"index":0,"text":"a","logit":NaN}]}\n\n',
        b'data: {"choices":[{"index":0,"text":"\\ud800"}]}\n\n',
        b'data: "CANARY-7781"\n\n',
        b"data: [1]\n\n",
        b"data: CANARY-7781\n\n",
        b"event: CANARY-7781\ndata: [1]\n\n",
        b'data: {"a":' * 2_000 + b"1" + b"}" * 2_000 + b"\n\n",
    ],
)
def test_an_event_that_cannot_be_read_ends_the_stream_unseen(data: bytes) -> None:
    with policed(chunk("a"), data, chunk("b", "stop"), "[DONE]", action="redact") as gate:
        answer = gate.ask(STREAMED)
        assert answer.status == 200
        assert CANARY.encode() not in answer.body
        assert gate.record().outcome in ("truncated", "denied")


def test_lines_around_an_event_are_left_out() -> None:
    data = (
        b"id: CANARY-7781\nevent: CANARY-7781\n: CANARY-7781\ndata: "
        + json.dumps(chunk("a", "stop")).encode()
    )
    with policed(data + b"\n\n", "[DONE]") as gate:
        answer = gate.ask(STREAMED)
        assert CANARY.encode() not in answer.body
        assert text_of(events_of(answer.body)) == "a"


def test_a_name_said_twice_in_an_event_is_said_once() -> None:
    data = b'data: {"choices":[{"index":0,"text":"CANARY-7781","text":"fine","finish_reason":"stop"}]}\n\n'
    with policed(data, "[DONE]") as gate:
        answer = gate.ask(STREAMED)
        assert CANARY.encode() not in answer.body
        assert text_of(events_of(answer.body)) == "fine"


# -- monitoring, and faults ------------------------------------------------------------------------


def test_monitoring_passes_every_byte_and_counts_what_it_finds() -> None:
    odd = (
        b": hi\n\ndata:" + json.dumps(chunk(CANARY[:4])).encode() + b"\n\nid: 1\ndata: [1]\n\ndata:"
    )
    odd += json.dumps(chunk(CANARY[4:], "stop")).encode() + b"\n\ndata: [DONE]\n\n"
    script = stream([odd], headers=[("content-type", "text/event-stream")])
    with gateway(script, plugins=[GUARD], policy={"response": {"canary": "monitor"}}) as gate:
        assert gate.ask(STREAMED).body == odd
        (finding,) = gate.record().findings
        assert (finding.action, finding.place) == ("monitor", "choices[0].text")


@pytest.mark.parametrize("what", FAULTS)
def test_a_detector_that_breaks_in_the_middle_ends_the_stream_unless_its_faults_are_borne(
    what: str,
) -> None:
    def find(text: str) -> Any:
        return FAULTS[what](text) if "Hello" in text else []

    detector = Detector(kind="odd", find=find, window=8)
    texts = [
        chunk("so far"),
        chunk(", so good: "),
        chunk("Hello"),
        chunk(" you and the rest"),
        chunk("", "stop"),
    ]
    for action in ("redact", "monitor"):
        reviewed = StreamReview(review(watch(detector, deadline=0.005), odd=action))
        shown = sent(reviewed, texts)
        assert reviewed.refusal is not None
        assert reviewed.refusal[0].code == "plugin_failed"
        assert "rest" not in str(text_of(shown))
        assert shown[-1]["choices"][0]["finish_reason"] == "content_filter"
        for settings_ in ({"monitor": True}, {"allow_on_error": True}):
            trail = Trail()
            borne = StreamReview(
                review(watch(detector, deadline=0.005, **settings_), trail=trail, odd=action)
            )
            assert text_of(sent(borne, texts)) == "so far, so good: Hello you and the rest"
            assert len({verdict.detail for verdict in trail.verdicts}) == len(trail.verdicts) > 0


def test_a_broken_detector_ends_a_monitored_stream_properly() -> None:
    plugin = {"use": "tests.test_streaming:Broken"}
    with gateway(
        sse([chunk("a"), chunk("Hello"), chunk("b", "stop"), "[DONE]"]),
        plugins=[plugin],
        policy={"request": {"*": "allow"}, "response": {"*": "monitor"}},
    ) as gate:
        payloads = events_of(gate.ask(STREAMED).body)
        assert payloads[-1]["choices"][0]["finish_reason"] == "content_filter"
        record = gate.record()
        assert (record.outcome, record.code) == ("denied", "plugin_failed")


def test_a_call_that_is_not_streamed_is_whole() -> None:
    with gateway(plugins=[GUARD], policy={"response": {"canary": "deny"}}) as gate:
        assert gate.ask(COMPLETION).json()["choices"][0]["text"] == " world"


@dataclass(frozen=True)
class Broken:
    """Finds nothing, loudly, in what says Hello."""

    @hookimpl
    def detectors(self) -> Any:
        yield Detector(
            kind="odd", window=8,
            find=lambda text: FAULTS["raises"](text) if "Hello" in text else [],
        )  # fmt: skip


def test_a_review_does_not_hold_a_stream_up() -> None:
    script = sse([chunk("Hello, "), WAIT, chunk("you", "stop"), "[DONE]"])
    with (
        gateway(script, plugins=[GUARD], policy={"response": {"canary": "redact"}}) as gate,
        gate.send(STREAMED) as sock,
    ):
        seen = b""
        while b"Hello" not in seen:
            piece = sock.recv(65_536)
            assert piece
            seen += piece
        gate.upstream.release()
        while b"[DONE]" not in seen:
            piece = sock.recv(65_536)
            assert piece
            seen += piece
        assert gate.record().outcome == "ok"
