"""Nothing that is denied or redacted comes in with a whole reply, and what was masked is put back in it."""

import json
import re
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.chain import Trail
from proxy.detect.detector import Detector
from proxy.frozen import freeze
from proxy.mask import Vault
from proxy.policy import Policy
from proxy.review import Review
from proxy.rules import Allowed, PolicyTable
from tests.gateway import CHOICE, COMPLETION, REPLY, STREAMED, bearer, chunk, gateway
from tests.policing import CANARY, TICKET, call, planted, review, watch
from tests.upstream import json_reply, sse

GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
_USAGE: Final = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "total_tokens": 3,
    "details": {"kind": "x"},
}
_TOKEN: Final = {
    "token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2, "bytes": None}],
}  # fmt: skip
SHAPES: Final[list[tuple[str, int, dict[str, Any]]]] = [
    ("/v1/completions", 200, {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "fp",
        "choices": [
            {"index": 0, "text": "Hello", "finish_reason": "stop", "stop_reason": None, "logprobs": {
                "tokens": ["Hel", "lo"], "token_logprobs": [-1, None], "text_offset": [0, 3],
                "top_logprobs": [{"Hel": -1}, None]}},
            {"index": 1, "text": "you", "finish_reason": "length", "logprobs": None,
             "token_ids": [1, 2], "prompt_logprobs": [None, {"12": {"logprob": -1, "decoded_token": "x"}}]},
        ],
        "usage": _USAGE, "prompt_token_ids": [1], "kv_transfer_params": None,
    }),
    ("/v1/chat/completions", 200, {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
        "choices": [{
            "index": 0, "finish_reason": "tool_calls", "logprobs": {"content": [_TOKEN], "refusal": None},
            "message": {
                "role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm",
                "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}],
                "audio": {"id": "a", "data": "zz", "transcript": "tr"},
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            }}],
        "usage": _USAGE, "prompt_logprobs": [None, {"12": {"decoded_token": "x"}}],
    }),
    ("/v1/embeddings", 200, {
        "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }),
    ("/v1/models", 200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "o"}]}),
    ("/v1/models/m", 200, {"id": "m", "object": "model", "created": 1, "owned_by": "o"}),
    ("/v1/completions", 500, {"error": {"message": "down", "type": "t", "param": None, "code": None}}),
]  # fmt: skip
REQUESTS: Final[dict[str, Any]] = {
    "/v1/completions": COMPLETION,
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/embeddings": {"model": "m", "input": "Hi"},
}


@pytest.mark.parametrize("action", ["deny", "redact", "mask"])
@pytest.mark.parametrize(
    ("path", "status", "shape"), SHAPES, ids=[p[4:] + str(s) for p, s, _ in SHAPES]
)
def test_no_place_of_any_whole_reply_lets_a_canary_in(
    path: str, status: int, shape: dict[str, Any], action: str
) -> None:
    cases = [("nowhere", shape), *planted(shape)]
    scripts = [json_reply(body, status) for _, body in cases]
    asked = REQUESTS.get(path)
    with gateway(*scripts, plugins=[GUARD], policy={"response": {"canary": action}}) as gate:
        for at, body in cases:
            answer = gate.ask(asked, path=path, method="POST" if asked else "GET")
            assert CANARY not in answer.body.decode(), at
            if body is shape:
                assert answer.json() == shape
            else:
                assert answer.status == (400 if action == "deny" else status), at
        assert len(gate.upstream.requests) == len(cases)
        assert CANARY not in repr(gate.records)


def test_a_reply_is_refused_without_saying_where_it_was_found() -> None:
    _, refusal = review(watch(), ticket="deny").whole({"choices": [{"text": "T-1"}]})
    assert refusal is not None
    assert refusal[0].message == "The reply was withheld by policy: it held ticket."


def test_what_is_to_be_masked_in_a_reply_is_redacted_for_there_is_no_later() -> None:
    trail = Trail()
    shown, _ = review(watch(), trail=trail, ticket="mask").whole({"model": "T-1"})
    assert shown == {"model": "[TICKET]"}
    assert trail.findings[0].action == "redact"


def test_monitoring_changes_nothing() -> None:
    trail = Trail()
    reviewed = review(watch(), trail=trail, ticket="monitor")
    body = freeze({"choices": [{"text": "T-1", "logprobs": {"tokens": ["T-1"]}}]})
    assert reviewed.whole(body) == (body, None)
    assert (reviewed.is_needed, reviewed.may_change, len(trail.findings)) == (True, False, 2)


def test_without_rules_and_masks_no_reply_is_looked_at() -> None:
    assert not review(watch()).is_needed
    assert not review(watch(), vault=Vault()).is_needed


def test_allowed_texts_are_shown() -> None:
    table = PolicyTable(response={"*": "deny"}, allowed=Allowed(values=("T-1",)))
    allowed = Review(Policy(table, [watch()]), call(), None, Trail())
    assert allowed.whole({"text": "T-1"}) == ({"text": "T-1"}, None)


def test_a_reply_full_of_findings_does_not_fill_the_record() -> None:
    trail = Trail()
    shown, _ = review(watch(), trail=trail, ticket="redact").whole({"text": "T-1 " * 2_000})
    assert shown == {"text": "[TICKET] " * 2_000}
    assert len(trail.findings) == 1_000


# -- log-probabilities -----------------------------------------------------------------------------


def choice(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": {"tokens": list(text)}, "token_ids": [1], **more}


def test_logprobs_go_exactly_where_they_cannot_be_kept_true() -> None:
    reviewed = review(watch(), ticket="redact")
    body = freeze(
        {"choices": [choice("T-1"), choice("fine")], "prompt_logprobs": [None], "usage": {}}
    )
    shown, _ = reviewed.whole(body)
    assert shown == {
        "choices": [{"text": "[TICKET]", "index": 0, "logprobs": None}, body["choices"][1]], "usage": {},
    }  # fmt: skip
    clean = freeze({"choices": [choice("fine")], "prompt_logprobs": [None]})
    assert reviewed.whole(clean)[0] is clean


def test_a_change_elsewhere_takes_no_logprobs() -> None:
    body = freeze({"model": "T-1", "choices": [choice("fine")], "prompt_logprobs": [None]})
    shown, _ = review(watch(), ticket="redact").whole(body)
    assert shown == {**body, "model": "[TICKET]"}


def test_what_repeats_the_prompt_goes_when_it_holds_a_finding() -> None:
    body = freeze(
        {"choices": [choice("fine")], "prompt_logprobs": [{"1": {"decoded_token": "T-1"}}]}
    )
    shown, _ = review(watch(), ticket="redact").whole(body)
    assert shown == {"choices": [choice("fine")]}


def test_a_restored_text_loses_its_logprobs() -> None:
    vault = Vault()
    mask = vault.mask("ticket", "T-1")
    shown, _ = review(vault=vault).whole({"choices": [choice(f"on {mask}")]})
    assert shown == {"choices": [{"text": "on T-1", "index": 0, "logprobs": None}]}
    shown, _ = review(vault=vault).whole([{"logprobs": 1, "token_ids": 2, "x": [mask]}])
    assert shown == [{"logprobs": None, "x": ["T-1"]}]


# -- masks -----------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.text())
def test_what_was_masked_is_put_back_everywhere(before: str, value: str, after: str) -> None:
    vault = Vault()
    mask = vault.mask("k", value) if value else ""
    body = {
        "choices": [
            {"text": f"{before}{mask}{after}{mask}"},
            {"message": {"content": mask, "tool_calls": [
                {"function": {"arguments": json.dumps({"q": f"a{mask}b"})}}]}},
        ],
        "echoed": [mask],
    }  # fmt: skip
    shown, _ = review(vault=vault).whole(body)
    assert shown["choices"][0]["text"] == before + value + after + value
    message = shown["choices"][1]["message"]
    assert message["content"] == value
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"q": f"a{value}b"}
    assert shown["echoed"] == [value]


def test_masks_that_were_invented_altered_or_taken_from_elsewhere_stay_as_they_are() -> None:
    vault, other = Vault(), Vault()
    mask = vault.mask("ticket", "T-1")
    foreign = other.mask("ticket", "T-1")
    for text in (
        foreign,
        "<TICKET_1_aaaaaa>",
        mask[:-2] + ">",
        mask.upper(),
        mask.strip("<>"),
        f"{mask[:5]} {mask[5:]}",
    ):
        body = {"choices": [{"text": text}]}
        assert review(vault=vault).whole(body)[0] is body


def test_our_own_masks_are_no_findings() -> None:
    anything = watch(Detector.regex("any", "<[A-Za-z0-9_]{1,40}>"))
    vault = Vault()
    mask = vault.mask("ticket", "secret")
    shown, refusal = review(anything, vault=vault, any="deny").whole({"text": mask})
    assert (shown, refusal) == ({"text": "secret"}, None)
    assert review(anything, vault=vault, any="deny").whole({"text": "<a>"})[1] is not None


def test_what_is_put_back_is_not_searched_again() -> None:
    vault = Vault()
    mask = vault.mask("ticket", "T-1")
    shown, refusal = review(watch(), vault=vault, ticket="deny").whole({"text": mask})
    assert (shown, refusal) == ({"text": "T-1"}, None)


# -- faults ----------------------------------------------------------------------------------------


def broken(text: str) -> Any:
    raise ValueError(text)


def exits(_: str) -> Any:
    raise SystemExit


def slow(_: str) -> Any:
    time.sleep(0.01)
    return []


FAULTS: Final[dict[str, Any]] = {
    "raises": broken, "exits": exits, "hangs": slow, "garbage": lambda _: [(9, 1)], "text": lambda _: "ab",
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_detector_that_breaks_on_a_reply_denies_it_unless_its_faults_are_borne(what: str) -> None:
    detector = Detector(kind="odd", find=FAULTS[what], window=8)
    body = {"choices": [{"text": "Hello"}]}
    _, refusal = review(watch(detector, deadline=0.005), odd="redact").whole(body)
    assert refusal is not None
    assert (refusal[0].code, refusal[1]) == ("plugin_failed", "p")
    for settings in ({"monitor": True}, {"allow_on_error": True}):
        trail = Trail()
        borne = review(watch(detector, deadline=0.005, **settings), trail=trail, odd="redact")
        assert borne.whole(body) == (body, None)
        assert trail.verdicts[0].verdict.endswith("error")


def test_a_detector_that_breaks_silences_no_other() -> None:
    odd = watch(Detector(kind="odd", find=broken, window=8), allow_on_error=True)
    shown, _ = review(odd, watch(TICKET), odd="deny", ticket="redact").whole({"text": "T-1"})
    assert shown == {"text": "[TICKET]"}


# -- parts of a content ----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["deny", "redact", "monitor"])
@pytest.mark.parametrize("place", ["content", "reasoning_details"])
def test_parts_of_a_content_are_searched_as_one_and_choices_are_not(
    action: Any, place: str
) -> None:
    parts = [{"type": "text", "text": "see T"}, {"type": "text", "text": "-12 now"}]
    body = {"choices": [{"message": {place: parts}}, {"text": "T"}, {"text": "-3"}]}
    trail = Trail()
    shown, refusal = review(watch(), trail=trail, ticket=action).whole(body)
    assert (refusal is not None) == (action == "deny")
    assert [found.place for found in trail.findings] == [
        f"choices[0].message.{place}[{i}].text" for i in (0, 1)
    ]
    if action == "redact":
        texts = [part["text"] for part in shown["choices"][0]["message"][place]]
        assert texts == ["see [TICKET]", "[TICKET] now"]
        assert shown["choices"][1:] == body["choices"][1:]


@given(st.lists(st.sampled_from(["T-", "T", "-", "1", "22", " ", "x"]), min_size=2, max_size=6))
def test_no_finding_is_left_in_parts_wherever_a_text_is_cut_into_them(texts: list[str]) -> None:
    parts = [{"type": "text", "text": text} for text in texts]
    shown, _ = review(watch(), ticket="redact").whole({"message": {"content": parts}})
    together = "".join(part["text"] for part in shown["message"]["content"])
    assert not re.search(r"T-[0-9]", together)


EVERYTHING: Final[dict[str, Any]] = {"*": "redact"}

# -- headers ---------------------------------------------------------------------------------------


def test_headers_that_come_back_are_redacted_also_where_the_rule_is_to_deny() -> None:
    for action in ("redact", "deny", "mask"):
        trail = Trail()
        reviewed = review(watch(), trail=trail, ticket=action)
        headers = [("x-request-id", "T-12 a"), ("openai-t-34", "x"), ("openai-version", "1")]
        folded = review(watch(Detector.regex("ticket", "t-[0-9]{2}")), ticket=action)
        assert reviewed.headers(headers)[0] == ("x-request-id", "[TICKET] a")
        assert folded.headers(headers)[1:] == [("openai-version", "1")]
        assert [(f.place, f.action) for f in trail.findings] == [("headers.x-request-id", "redact")]


def test_headers_are_recorded_where_the_rule_is_to_monitor_and_left_alone_without_rules() -> None:
    trail = Trail()
    headers = [("x-request-id", "T-12"), ("x-request-id", "T-13")]
    assert review(watch(), trail=trail, ticket="monitor").headers(headers) == headers
    assert len(trail.findings) == 2
    assert review(watch()).headers(headers) is headers


def test_a_header_that_could_not_be_sent_once_it_was_redacted_is_left_out() -> None:
    odd = watch(Detector.regex("d\u00e9j\u00e0", "T-[0-9]"))
    assert review(odd, **EVERYTHING).headers([("retry-after", "T-1"), ("etag", "2")]) == [
        ("etag", "2")
    ]


@pytest.mark.parametrize("streamed", [False, True])
def test_no_header_lets_a_canary_in(streamed: bool) -> None:
    headers = [
        ("x-request-id", f"for {CANARY}"), ("openai-organization", CANARY), ("x-ratelimit-x", f"{CANARY};w=1"),
        (f"openai-{CANARY}", "1"), ("x-own", f"a {CANARY}"), ("x-hidden", CANARY), ("openai-version", "2020-10-01"),
    ]  # fmt: skip
    events: list[Any] = [chunk("hi", "stop"), "[DONE]"]
    script = sse(events, headers=headers) if streamed else json_reply(REPLY, headers=headers)
    guard = {"use": "regex_guard", "options": {"patterns": {"canary": "(?i)CANARY-[0-9]{4}"}}}
    for action in ("redact", "deny"):
        with gateway(
            script, plugins=[guard], upstream={"reply_headers": ["x-own"]},
            policy={"response": {"canary": action}},
        ) as gate:  # fmt: skip
            answer = gate.ask(STREAMED if streamed else COMPLETION)
            assert answer.status == 200
            assert "canary-7781" not in repr(answer.headers).lower()
            assert answer.header("x-request-id") == "for [CANARY]"
            assert answer.header("x-own") == "a [CANARY]"
            assert answer.header("openai-version") == "2020-10-01"
            record = gate.record()
            assert record.upstream_request_id == "for [CANARY]"
            assert len(record.findings) == 5
            assert CANARY not in repr(record)


def test_a_detector_that_breaks_on_a_header_withholds_the_reply() -> None:
    guard = {"use": "tests.test_streaming:Broken"}
    script = json_reply(REPLY, headers=[("x-request-id", "Hello")])
    policy = {"request": {"*": "allow"}, "response": {"odd": "redact"}}
    with gateway(script, plugins=[guard], policy=policy) as gate:
        assert gate.ask(COMPLETION).error["code"] == "plugin_failed"
        assert gate.record().outcome == "denied"


# -- what is taken out is told ---------------------------------------------------------------------

LOGPROBS: Final = {"tokens": ["CANARY", "-7781"], "token_logprobs": [-1, -1]}


def asked(script: Any, body: Any, action: str = "redact", **sections: Any) -> tuple[Any, Any]:
    policy = {"response": {"canary": action}}
    with gateway(script, plugins=[GUARD], policy=policy, **sections) as gate:
        return gate.ask(body), gate.record()


def test_a_whole_reply_says_what_was_taken_out_of_it() -> None:
    said = {**CHOICE, "text": CANARY, "logprobs": LOGPROBS, "token_ids": [1]}
    answer, record = asked(
        json_reply({**REPLY, "choices": [said], "prompt_logprobs": None}), COMPLETION
    )
    assert answer.header("x-outgate-removed") == "logprobs, token_ids"
    assert record.removed == ("logprobs", "token_ids")
    for text, logprobs in ((CANARY, None), ("fine", LOGPROBS | {"tokens": ["f", "ine"]})):
        kept = {**CHOICE, "text": text, "logprobs": logprobs}
        answer, record = asked(json_reply({**REPLY, "choices": [kept]}), COMPLETION)
        assert (answer.header("x-outgate-removed"), record.removed) == (None, ())


def test_a_stream_says_at_its_head_what_will_not_be_in_it_and_the_record_what_was() -> None:
    first = chunk("fine, ")
    first["choices"][0] |= {"logprobs": LOGPROBS, "token_ids": [1]}
    script = sse([{**first, "prompt_token_ids": [1]}, chunk("", "stop"), "[DONE]"])
    answer, record = asked(script, STREAMED)
    assert (
        answer.header("x-outgate-removed")
        == "logprobs, prompt_logprobs, prompt_token_ids, token_ids"
    )
    assert record.removed == ("logprobs", "prompt_token_ids", "token_ids")
    assert b"token_ids" not in answer.body
    answer, record = asked(script, STREAMED, "monitor")
    assert (answer.header("x-outgate-removed"), record.removed) == (None, ())
    assert b"token_ids" in answer.body


def test_what_is_found_in_a_stream_is_in_the_record_and_not_in_its_head() -> None:
    script = sse([chunk(f"a {CANARY}"), chunk("", "stop"), "[DONE]"])
    policy = {"response": {"canary": "redact"}, "request": {"canary": "monitor"}}
    with gateway(script, plugins=[GUARD], policy=policy) as gate:
        headers = [*bearer(), ("x-outgate-findings", "1")]
        answer = gate.ask({**STREAMED, "prompt": CANARY}, headers)
        assert answer.header("x-outgate-findings") == "canary=1"
        assert [found.place for found in gate.record().findings] == ["prompt", "choices[0].text"]
