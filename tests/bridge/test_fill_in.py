"""Completions with a suffix on a provider's own route: one call in, requests out, one completion back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Bridge, Provider, hookimpl
from proxy.bridge.fill_in import fills_in, planned_fill_in
from proxy.errors import InvalidRequest
from proxy.frozen import FrozenDict
from proxy.jsonio import decode
from tests.bridge.chats import USAGE, call, chat, delta, told
from tests.bridge.test_crossing import DONE, events, text
from tests.gateway import gateway, refused
from tests.upstream import Connection, Received, Script, json_reply, sse

FILL: Final[dict[str, Any]] = {
    "model": "m",
    "prompt": "def f(",
    "suffix": "return x",
    "max_tokens": 8,
}


@dataclass(frozen=True)
class Mistral:
    """Chats, no completions, and a route that answers like a chat."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        paths = FrozenDict(chat="/chat/completions")
        yield Provider(name="mistral_like", paths=paths, fill_in="/fim/completions")


@dataclass(frozen=True)
class DeepSeek:
    """Completions of their own, and a route for those with a suffix."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        yield Provider(name="deepseek_like", fill_in="/beta/completions")


def to(name: str, **upstream: Any) -> dict[str, Any]:
    plugins = [{"use": "tests.bridge.test_fill_in:Mistral"}]
    plugins += [{"use": "tests.bridge.test_fill_in:DeepSeek"}]
    return {"plugins": plugins, "upstream": {"provider": name, **upstream}}


def completion(said: str, **more: Any) -> dict[str, Any]:
    one = {"text": said, "index": 0, "logprobs": None, "finish_reason": "stop", **more}
    head = {"id": "up-1", "object": "text_completion", "created": 1, "model": "m-1"}
    return {**head, "choices": [one], "usage": USAGE}


def echoing() -> Script:
    def play(connection: Connection, request: Received) -> None:
        json_reply(chat(f"[{request.json()['prompt']}]"))(connection, request)

    return play


def bodies(**body: Any) -> list[Any]:
    made = planned_fill_in(call(suffix="z", **body), Bridge())
    return [decode(part.body, depth=9) for part in made.parts]


def refusal(bridge: Bridge | None = None, **body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        planned_fill_in(call(suffix="z", **body), bridge or Bridge())
    return caught.value


# -- who goes there --------------------------------------------------------------------------------


def test_only_completions_with_a_suffix_and_without_a_text_for_it_are_filled_in() -> None:
    template = Bridge(suffix="{prompt}{suffix}")
    assert fills_in(call(suffix="z"), Bridge())
    assert not fills_in(call(suffix="z"), template)
    assert not fills_in(call(suffix=""), Bridge())
    assert not fills_in(call(suffix=None), Bridge())
    assert not fills_in(call(), Bridge())


def test_the_operators_text_goes_before_the_route() -> None:
    bridge = {"suffix": "A: {prompt} B: {suffix}"}
    with gateway(json_reply(chat("x")), **to("mistral_like", bridge=bridge)) as gate:
        assert gate.ask(FILL).status == 200
        assert gate.upstream.requests[0].path == "/v1/chat/completions"


def test_without_a_suffix_nothing_changes() -> None:
    plain = {"model": "m", "prompt": "Hello"}
    with gateway(json_reply(completion("x")), **to("deepseek_like")) as gate:
        gate.ask(plain)
        assert gate.upstream.requests[0].path == "/v1/completions"
        assert gate.upstream.requests[0].json() == plain
        assert gate.record().bridged == 0


# -- what is sent ----------------------------------------------------------------------------------


def test_a_body_goes_as_it_came_with_its_limit() -> None:
    (sent,) = bodies(stop=["\n"], temperature=0, min_tokens=3, stream=True)
    assert sent == {
        "model": "m", "prompt": "Hello", "suffix": "z", "stop": ["\n"], "temperature": 0, "min_tokens": 3,
        "stream": True, "max_tokens": 16,
    }  # fmt: skip


def test_prompts_and_choices_are_requests_of_their_own_with_their_seeds() -> None:
    sent = bodies(prompt=["a", "b"], n=2, seed=5, best_of=2)
    assert [(one["prompt"], one["seed"]) for one in sent] == [
        ("a", 5),
        ("a", 6),
        ("b", 5),
        ("b", 6),
    ]
    assert not any({"n", "best_of", "echo"} & one.keys() for one in sent)
    assert bodies(seed=None)[0]["seed"] is None


def test_what_such_a_route_cannot_give_is_refused() -> None:
    assert refusal(n=1, best_of=2).param == "best_of"
    assert refusal(echo=True, logprobs=1).param == "echo"
    assert "would become 4 requests, and at most 3" in refusal(Bridge(parts=3), n=4).message
    assert refusal(prompt=[[1, 2]]).code == "bridge_needs_tokenizer"


# -- what comes back -------------------------------------------------------------------------------


def test_an_answer_in_the_shape_of_a_chat_is_a_completion() -> None:
    with gateway(json_reply(chat("x): ")), **to("mistral_like")) as gate:
        answer = gate.ask({**FILL, "echo": True}).json()
        record, (request,) = gate.record(), gate.upstream.requests
    assert (request.path, request.json()) == ("/v1/fim/completions", FILL)
    assert answer["object"] == "text_completion"
    assert answer["id"] == record.id.replace("req_", "cmpl-")
    assert answer["choices"] == [
        {"text": "def f(x): ", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert answer["usage"] == USAGE
    assert record.bridged == 1
    assert record.bridged_digest is not None


def test_an_answer_that_is_a_completion_stays_one() -> None:
    scores = {
        "tokens": ["x"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"x": -0.5}],
        "text_offset": [6],
    }
    with gateway(json_reply(completion("x", logprobs=scores)), **to("deepseek_like")) as gate:
        (one,) = gate.ask({**FILL, "logprobs": 1}).json()["choices"]
        assert gate.upstream.requests[0].path == "/v1/beta/completions"
    assert one == {"text": "x", "index": 0, "logprobs": scores, "finish_reason": "stop"}


def test_several_prompts_come_back_in_their_order() -> None:
    with gateway(echoing(), **to("mistral_like")) as gate:
        answer = gate.ask({**FILL, "prompt": ["a", "b"], "n": 2}).json()
        assert gate.record().bridged == 4
    assert [(one["index"], one["text"]) for one in answer["choices"]] == [
        (0, "[a]"),
        (1, "[a]"),
        (2, "[b]"),
        (3, "[b]"),
    ]
    assert answer["usage"]["total_tokens"] == 4 * USAGE["total_tokens"]


def chunk(said: str, finish: str | None = None) -> dict[str, Any]:
    one = {"text": said, "index": 0, "logprobs": None, "finish_reason": finish}
    return {
        "id": "up",
        "object": "text_completion",
        "created": 1,
        "model": "m-1",
        "choices": [one],
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mistral_like", [*told("x", "):"), DONE]),
        ("deepseek_like", [chunk("x"), chunk("):"), chunk("", "stop"), DONE]),
    ],
)
def test_a_stream_of_either_shape_is_one_of_completions(name: str, said: list[Any]) -> None:
    with gateway(sse(said), **to(name)) as gate:
        answer = gate.ask({**FILL, "prompt": ["a", "b"], "stream": True, "echo": True})
        assert gate.record().outcome == "ok"
    *chunks, done = events(answer)
    assert done == DONE
    assert [text(answer, index) for index in (0, 1)] == ["ax):", "bx):"]
    assert {one["object"] for one in chunks} == {"text_completion"}
    assert len({one["id"] for one in chunks}) == 1
    ends = [one["choices"][0]["finish_reason"] for one in chunks]
    assert sorted(filter(None, ends)) == ["stop", "stop"]


def test_a_whole_answer_among_streams_keeps_its_text() -> None:
    def play(connection: Connection, request: Received) -> None:
        script = (
            sse([chunk("1"), chunk("", "stop"), DONE])
            if request.json()["prompt"] == "a"
            else json_reply(completion("2"))
        )
        script(connection, request)

    with gateway(play, **to("deepseek_like")) as gate:
        answer = gate.ask({**FILL, "prompt": ["a", "b"], "stream": True})
    assert [text(answer, index) for index in (0, 1)] == ["1", "2"]


def test_a_stream_that_is_cut_stays_cut() -> None:
    with gateway(sse([delta("x")]), **to("mistral_like")) as gate:
        *_, last = events(gate.ask({**FILL, "stream": True}))
        assert last["error"]["code"] == "upstream_truncated"
        assert gate.record().outcome == "truncated"


def test_a_refusal_comes_as_it_is() -> None:
    error = {"error": {"message": "No.", "type": "t", "param": None, "code": "c"}}
    with gateway(json_reply(error, 422), **to("mistral_like")) as gate:
        answer = gate.ask(FILL)
        assert (answer.status, answer.json()) == (422, error)
        refused(gate.ask({**FILL, "best_of": 2}), 400, "bridge_cannot")
