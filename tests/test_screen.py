"""Everything that a request says is looked at, and masked so that it can be put back."""

import base64
import json
import re
import urllib.parse
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.convert import convert
from proxy.detect.detector import Detector
from proxy.frozen import FrozenDict
from proxy.model import Call, Principal
from proxy.policy import Policy
from proxy.rules import PolicyTable
from proxy.screen import Screen, Screened
from proxy.steps import Trail
from tests.gateway import COMPLETION, REPLY, bearer, gateway
from tests.policing import CANARY, TICKET, planted, screened, watch
from tests.upstream import json_reply

MASK: Final = {"ticket": "mask"}
GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up", "description": "Looks up", "strict": True,
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "enum": ["a", "b"]}}},
    },
}  # fmt: skip
_CALLED: Final = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"q": 1}'}}
SHAPES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("/v1/completions", {
        "model": "m", "prompt": "Hello", "suffix": "s", "stop": ["x"], "user": "u", "n": 2, "echo": True,
        "metadata": {"k": "v"}, "logit_bias": {"50256": -1}, "logprobs": 1, "odd": {"deep": [{"er": None}]},
    }),
    ("/v1/completions", {"model": "m", "prompt": ["Hello", "world"], "stop": "x", "seed": 1}),
    ("/v1/chat/completions", {
        "model": "m", "temperature": 1, "tool_choice": {"type": "function", "function": {"name": "f"}},
        "messages": [
            {"role": "system", "content": "Be nice", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "you"}]},
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": [_CALLED]},
            {"role": "tool", "tool_call_id": "1", "content": "found"},
        ],
        "tools": [_TOOL], "prediction": {"type": "content", "content": "maybe"}, "metadata": {"k": "v"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }),
    ("/v1/embeddings", {"model": "m", "input": "Hello", "user": "u", "dimensions": 3}),
    ("/v1/embeddings", {"model": "m", "input": ["Hello", "world"], "encoding_format": "float"}),
]  # fmt: skip


@pytest.mark.parametrize("action", ["deny", "redact", "mask"])
@pytest.mark.parametrize(
    ("path", "shape"), SHAPES, ids=[f"{p[4:]}{i}" for i, (p, _) in enumerate(SHAPES)]
)
def test_no_place_of_any_request_lets_a_canary_out(
    path: str, shape: dict[str, Any], action: str
) -> None:
    with gateway(plugins=[GUARD], policy={"request": {"canary": action}}) as gate:
        assert gate.ask(shape, path=path).status == 200
        for at, body in planted(shape):
            answer = gate.ask(body, path=path)
            assert answer.status in ((400,) if action == "deny" else (200, 400)), (
                at,
                answer.status,
            )
            assert CANARY not in answer.body.decode(), at
        assert len(gate.upstream.requests) > 1 or action == "deny"
        for request in gate.upstream.requests:
            assert CANARY.encode() not in request.body
        sent = repr([record.findings for record in gate.records])
        assert CANARY not in sent


@pytest.mark.parametrize("endpoint", ["model", "models"])
def test_the_model_in_a_path_is_scanned_like_a_body(endpoint: Any) -> None:
    asked = Call(
        id="1", endpoint=endpoint, body=FrozenDict(), principal=Principal("a"), model="T-12"
    )
    result = Screen(Policy(PolicyTable(), [watch()])).judge(asked, Trail())
    assert (result.refusal is not None) == (endpoint == "model")


@pytest.mark.parametrize("action", ["redact", "mask"])
def test_the_model_that_is_asked_for_cannot_be_changed_so_it_is_denied(action: Any) -> None:
    result, trail = screened({"model": "T-1"}, watch(), request={"ticket": action})
    assert result.refusal is not None
    assert trail.findings[0].place == "model"


@pytest.mark.parametrize("action", ["redact", "mask"])
def test_a_key_cannot_be_changed_so_it_is_denied(action: Any) -> None:
    assert screened({"metadata": {"T-1": "x"}}, watch(), request={"ticket": action})[0].refusal


@pytest.mark.parametrize("action", ["deny", "redact", "mask"])
def test_a_header_that_is_sent_on_is_scanned_and_never_edited(action: Any) -> None:
    result, trail = screened(
        {}, watch(), headers={"openai-project": "T-1"}, request={"ticket": action}
    )
    assert result.refusal is not None
    assert [found.place for found in trail.findings] == ["headers.openai-project"]


def test_what_was_found_in_a_key_is_not_named_on_the_way_to_it() -> None:
    result, trail = screened({"metadata": {"T-99": {"note": "T-98"}}}, watch())
    assert result.refusal is not None
    assert "T-9" not in f"{result.refusal}{trail.findings}"
    assert [found.place for found in trail.findings] == ["metadata.{key}", "metadata.{key}.note"]


def test_a_refusal_names_a_few_places_and_repeats_nothing_that_was_found() -> None:
    result, _ = screened({"prompt": ["T-991", "T-992", "T-993", "T-994"]}, watch())
    assert result.refusal is not None
    assert "prompt[0], prompt[1], prompt[2] and elsewhere" in result.refusal[0].message
    assert "T-99" not in result.refusal[0].message


def test_several_kinds_are_redacted_in_one_text() -> None:
    word = watch(Detector.regex("word", "secret[a-z]{0,9}"))
    result, _ = screened({"prompt": "secretT-1 and T-2"}, watch(), word, request={"*": "redact"})
    assert result.body["prompt"] == "[WORD][TICKET] and [TICKET]"


def test_a_body_in_which_nothing_is_found_is_the_same_object() -> None:
    trail = Trail()
    made = Call(
        id="1", endpoint="completions", body=FrozenDict(prompt="x"), principal=Principal("a")
    )
    assert Screen(Policy(PolicyTable(), [watch()])).judge(made, trail).body is made.body
    assert Screen(Policy(PolicyTable(), [])).judge(made, trail).body is made.body


# -- what is read as one ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "body", "places"),
    [
        ("completions", {"prompt": ["see T", "-12"]}, ["prompt[0]", "prompt[1]"]),
        ("completions", {"prompt": ["see ", "T", "-1", "2 it"]}, [f"prompt[{i}]" for i in (1, 2, 3)]),
        ("embeddings", {"input": ["T-", "12"]}, ["input[0]", "input[1]"]),
        (
            "chat",
            {"messages": [{"role": "user", "content": "T"}, {"role": "user", "content": "-12"}]},
            ["messages[0].content", "messages[1].content"],
        ),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"text": "T-"}, {"type": "text", "text": "1"}]}]},
            ["messages[0].content[0].text", "messages[0].content[1].text"],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("action", ["deny", "redact", "mask"])
def test_texts_that_are_read_one_after_the_other_are_searched_as_one(
    endpoint: Any, body: dict[str, Any], places: list[str], action: str
) -> None:
    result, trail = screened(body, watch(), endpoint=endpoint, request={"ticket": action})
    assert [found.place for found in trail.findings] == places
    assert (result.refusal is not None) == (action == "deny")
    if action != "deny":
        assert "-1" not in json.dumps(result.body)
    if result.vault:
        restored = json.loads(result.vault.restore(json.dumps(result.body), inside_json=True))
        assert {key: restored[key] for key in body} == body


def test_what_a_space_between_two_texts_makes_is_found_too() -> None:
    name = watch(Detector.regex("name", "Ada Lovelace"))
    assert screened({"prompt": ["Ada", "Lovelace"]}, name)[0].refusal
    assert not screened({"prompt": "Ada", "suffix": "Lovelace"}, name)[0].refusal


def test_what_stands_in_one_text_is_found_once() -> None:
    _, trail = screened({"prompt": ["T-1", "x"]}, watch(), request={"ticket": "monitor"})
    assert len(trail.findings) == 1


# -- what hides behind an encoding -----------------------------------------------------------------

SAID: Final = "my ticket is T-12 today"


@pytest.mark.parametrize(
    "hidden",
    [
        base64.b64encode(SAID.encode()).decode(),
        SAID.encode().hex(),
        "".join(f"\\u{ord(char):04x}" for char in SAID),
        "".join(f"&#{ord(char)};" for char in SAID),
        "".join(f"%{byte:02X}" for byte in SAID.encode()),
        base64.b64encode(urllib.parse.quote(SAID, safe="").encode()).decode(),
    ],
    ids=["base64", "hex", "escapes", "entities", "percent", "twice"],
)
def test_what_is_encoded_is_found_and_masked_as_it_stands(hidden: str) -> None:
    result, _ = screened({"prompt": f"run {hidden} now"}, watch(), request=MASK)
    assert result.vault is not None
    assert hidden not in result.body["prompt"]
    assert result.vault.restore(result.body["prompt"]) == f"run {hidden} now"
    assert not screened({"prompt": f"run {hidden} now"}, watch(), decode=False)[0].refusal


# -- masking ---------------------------------------------------------------------------------------


def test_the_same_value_has_the_same_mask_in_a_call_and_another_in_the_next() -> None:
    body = {"prompt": ["T-1 and T-2", "T-1"]}
    first, second = (screened(body, watch(), request=MASK)[0] for _ in range(2))
    a, b = first.body["prompt"]
    assert a.split(" and ")[0] == b
    assert a.split(" and ")[1] != b
    assert second.body["prompt"][1] != b
    assert first.vault is not None
    assert first.vault.restore(second.body["prompt"][1]) == second.body["prompt"][1]
    assert not screened({"prompt": "x"}, watch(), request=MASK)[0].vault


def test_what_is_to_be_redacted_is_not_restored() -> None:
    two = watch(Detector.regex("word", "bluebird"))
    result, _ = screened(
        {"prompt": "T-1 bluebird"}, watch(), two, request={"ticket": "mask", "word": "redact"}
    )
    assert result.vault is not None
    assert result.vault.restore(result.body["prompt"]) == "T-1 [WORD]"


def test_masks_may_look_real_and_stand_nowhere_else_in_the_call() -> None:
    email = watch(Detector.regex("email", r"[a-z]{1,9}@[a-z]{1,9}\.example"))
    body = {"prompt": "write to ada@acme.example"}
    result, _ = screened(body, email, request={"email": "mask"}, fakes=True)
    assert result.vault is not None
    assert "@" in result.body["prompt"]
    assert "<" not in result.body["prompt"]
    assert result.vault.restore(result.body["prompt"]) == body["prompt"]


def test_the_arguments_of_a_tool_are_masked_by_what_they_mean() -> None:
    quoted = watch(Detector.regex("word", r'blue\\?"bird'))
    arguments = json.dumps({"q": 'a blue"bird b'})
    message = {"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}
    said = {"role": "user", "content": 'blue"bird'}
    result, _ = screened(
        {"messages": [message, said]}, quoted, endpoint="chat", request={"word": "mask"}
    )
    assert result.vault is not None
    masked = result.body["messages"][0]["tool_calls"][0]["function"]["arguments"]
    mask = result.body["messages"][1]["content"]
    assert json.loads(masked) == {"q": f"a {mask} b"}
    assert json.loads(result.vault.restore(masked, inside_json=True)) == {"q": 'a blue"bird b'}


def test_the_call_that_was_masked_leaves_masked_and_the_caller_sees_its_own_words() -> None:
    with gateway(plugins=[GUARD], policy={"request": {"canary": "mask"}}) as gate:
        assert gate.ask({**COMPLETION, "prompt": f"see {CANARY}!"}).status == 200
        sent = gate.upstream.requests[0].json()["prompt"]
        assert sent.startswith("see <CANARY_1_")
        assert gate.record().findings[0].action == "mask"


# -- conversations ---------------------------------------------------------------------------------

SESSION: Final = {"header": "X-Session", "key": {"env": "CONVERSATION_KEY"}}


@pytest.fixture
def talking(monkeypatch: pytest.MonkeyPatch) -> PolicyTable:
    monkeypatch.setenv("CONVERSATION_KEY", "k" * 32)
    made: PolicyTable = convert(
        {"request": MASK, "conversation": SESSION}, PolicyTable, where="policy"
    )
    return made


def said(
    table: PolicyTable, prompt: Any, session: str | None = "s1", caller: str = "a"
) -> Screened:
    asked = Call(
        id="1", endpoint="completions", body=FrozenDict(prompt=prompt), principal=Principal(caller),
        headers=FrozenDict({"x-session": session} if session is not None else {}),
    )  # fmt: skip
    # Another policy each time, as in another worker: nothing is shared but the key.
    return Screen(Policy(table, [watch()])).judge(asked, Trail())


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.data())
def test_a_conversation_keeps_its_masks_over_turns_workers_and_a_history_that_is_cut(
    talking: PolicyTable, numbers: list[int], data: Any
) -> None:
    turns = [f"about T-{number}." for number in numbers]
    masks: dict[str, str] = {}
    for end in range(1, len(turns) + 1):
        history = turns[data.draw(st.integers(0, end - 1)) : end]
        result = said(talking, history)
        assert result.vault is not None
        for turn, sent in zip(history, result.body["prompt"], strict=True):
            assert masks.setdefault(turn, sent) == sent
            assert result.vault.restore(sent) == turn
        # What was masked in an earlier turn, and is no part of this one, is not this call's to tell.
        for turn, sent in masks.items():
            assert result.vault.restore(sent) == (turn if turn in history else sent)


def test_only_the_same_caller_in_the_same_conversation_has_the_same_masks(
    talking: PolicyTable,
) -> None:
    calls = [("s1", "a"), ("s2", "a"), ("s1", "b"), (None, "a"), (None, "a"), ("", "a")]
    masks = [said(talking, "T-1", session, caller).body["prompt"] for session, caller in calls]
    assert len(set(masks)) == len(masks)
    assert said(talking, "T-1", "s1", "a").body["prompt"] == masks[0]
    assert masks[0].count("_") == 1
    assert masks[3].startswith("<TICKET_1_")


def test_a_chat_of_several_turns_reads_the_same_names_through_a_running_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVERSATION_KEY", "k" * 32)

    def echo(connection: Any, request: Any) -> None:
        text = request.json()["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"You said: {text}"}
        json_reply({**REPLY, "choices": [{"index": 0, "message": message}]})(connection, request)

    policy = {"request": {"canary": "mask"}, "conversation": SESSION}
    with gateway(echo, plugins=[GUARD], policy=policy) as gate:
        messages: list[dict[str, str]] = []
        for turn in (f"first CANARY-0001 and {CANARY}", f"then {CANARY}", f"and {CANARY}?"):
            messages.append({"role": "user", "content": turn})
            body = {"model": "m", "messages": messages}
            headers = [*bearer(), ("x-session", "talk-1")]
            answer = gate.ask(body, headers, path="/v1/chat/completions").json()
            messages.append(answer["choices"][0]["message"])
            assert messages[-1]["content"] == f"You said: {turn}"
        sent = [request.body.decode() for request in gate.upstream.requests]
        masks = [set(re.findall("<CANARY_[a-z2-7]{10}>", body)) for body in sent]
        assert [len(found) for found in masks] == [2, 2, 2]
        assert masks[0] == masks[1] == masks[2]
        assert "talk-1" not in "".join(map(str, (r.headers for r in gate.upstream.requests)))


# -- what is recorded ------------------------------------------------------------------------------


def test_a_finding_knows_its_kind_and_place() -> None:
    _, trail = screened({"prompt": "T-1"}, watch(TICKET, plugin="mine"), request=MASK)
    assert [(f.kind, f.place, f.plugin, f.action) for f in trail.findings] == [
        ("ticket", "prompt", "mine", "mask")
    ]
