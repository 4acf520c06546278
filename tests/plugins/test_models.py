from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness
from tests.gateway import STREAMED, chunk, gateway, refused
from tests.upstream import WAIT, Event, Wait, json_reply, sse

LISTED = {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "o3"}, {"id": "gpt-4"}]}
OPTIONS: dict[str, Any] = {
    "default": ["gpt-4*"],
    "groups": {"research": ["o?"], "vision": ["*-vision"], "none": []},
    "principals": {"bob": ["davinci-002"]},
}


@pytest.mark.parametrize(
    ("caller", "groups", "model", "allowed"),
    [
        ("alice", (), "gpt-4o", True),
        ("alice", (), "gpt-4", True),
        ("alice", (), "xgpt-4", False),
        ("alice", (), "GPT-4", False),
        ("alice", (), "o3", False),
        ("alice", ("elsewhere",), "gpt-4", True),
        ("alice", ("research",), "o3", True),
        ("alice", ("research",), "o3-mini", False),
        ("alice", ("research",), "gpt-4", False),
        ("alice", ("research", "vision"), "llama-vision", True),
        ("alice", ("none",), "gpt-4", False),
        ("bob", ("research",), "davinci-002", True),
        ("bob", ("research",), "o3", False),
        ("alice", (), "gpt-4\nevil", True),
        ("alice", (), "gpt-5\ngpt-4", False),
        ("alice", (), "", False),
    ],
)
def test_the_most_particular_list_decides(
    caller: str, groups: tuple[str, ...], model: str, allowed: bool
) -> None:
    loaded = harness("models", **OPTIONS).given(caller=caller, groups=groups)
    for result in (
        loaded.completions(model=model),
        loaded.chat(model=model),
        loaded.call("embeddings", model=model),
        loaded.call("model", model=model),
    ):
        if model or result.record.endpoint == "model":
            assert (result.denied is None) is allowed
        else:
            assert result.denied is not None


def test_the_refusal_says_what_may_be_used() -> None:
    result = harness("models", **OPTIONS).completions(model="x" * 5000)
    assert result.denied is not None
    assert (result.denied.status, result.denied.code) == (403, "model_not_allowed")
    assert result.denied.param == "model"
    assert "gpt-4*" in result.denied.message
    assert len(result.denied.message) < 300
    assert result.record.denied_by == "models"


def test_someone_without_any_model_is_told_so() -> None:
    result = harness("models", groups={"a": ["b"]}).completions()
    assert result.denied is not None
    assert result.denied.message.endswith("none.")


def test_the_list_of_models_shows_those_the_caller_may_use() -> None:
    reply = harness("models", **OPTIONS).respond(LISTED, "models").reply
    assert reply == {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "gpt-4"}]}


@pytest.mark.parametrize(
    "body", [{"data": [{"id": "gpt-4"}]}, {"error": {"message": "no"}}, {"data": "none"}]
)
def test_a_list_with_nothing_to_hide_stays_as_it_is(body: Any) -> None:
    assert harness("models", **OPTIONS).respond(body, "models").reply == body


def test_an_entry_that_is_no_model_is_not_shown() -> None:
    body = {"data": [{"id": "gpt-4"}, "gpt-4", None, {"name": "gpt-4"}]}
    assert harness("models", **OPTIONS).respond(body, "models").reply == {"data": [{"id": "gpt-4"}]}


def test_an_empty_table_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="nobody could use any model"):
        harness("models", default=[], groups={"a": []})


def test_over_http_the_list_is_filtered_and_a_refused_model_sends_nothing() -> None:
    plugin = {"use": "models", "options": {"default": ["gpt-*"]}}
    with gateway(json_reply(LISTED), plugins=[plugin]) as gate:
        listed = gate.ask(path="/v1/models", method="GET").json()
        assert [item["id"] for item in listed["data"]] == ["gpt-4o", "gpt-4"]
        refused(gate.ask({"model": "o3", "prompt": "Hello"}), 403, "model_not_allowed")
        refused(gate.ask(path="/v1/models/o3", method="GET"), 403, "model_not_allowed")
        assert len(gate.upstream.requests) == 1


def test_streams_of_other_endpoints_are_not_buffered() -> None:
    events: list[Event | Wait] = [chunk("Hel"), WAIT, chunk("lo", "stop"), "[DONE]"]
    plugin = {"use": "models", "options": {"default": ["*"]}}
    with gateway(sse(events), plugins=[plugin]) as gate, gate.send(STREAMED) as sock:
        seen = b""
        while b"Hel" not in seen:  # the upstream says no more until it is released
            seen += sock.recv(4096)
        gate.upstream.release()
        while b"[DONE]" not in seen:
            seen += sock.recv(4096)
