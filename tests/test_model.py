"""The values of the hook chain are replaced, never edited, and follow their body."""

import time
from typing import Any

import msgspec
import pytest

from proxy.frozen import freeze
from proxy.model import (
    Call,
    Credentials,
    Deny,
    Limits,
    Principal,
    Provider,
    Reply,
    Timeouts,
    Upstream,
)
from proxy.records import Record
from proxy.secret import Secret


def call(**fields: Any) -> Call:
    body = freeze({"model": "m", "prompt": "p", "n": 1})
    return Call(
        **{
            "id": "1",
            "endpoint": "completions",
            "body": body,
            "principal": Principal("ada"),
            "model": "m",
            **fields,
        }
    )


def test_a_call_cannot_be_edited() -> None:
    with pytest.raises(AttributeError):
        call().id = "2"  # type: ignore[misc]
    with pytest.raises(TypeError, match="with_body"):
        call().body["prompt"] = "x"  # type: ignore[index]


def test_with_body_sets_some_members_and_keeps_the_rest() -> None:
    before = call()
    after = before.with_body(prompt="new", extra=[{"a": 1}])
    assert after.body == {"model": "m", "prompt": "new", "n": 1, "extra": [{"a": 1}]}
    assert before.body["prompt"] == "p"
    with pytest.raises(TypeError):
        after.body["extra"][0]["a"] = 2


def test_model_and_stream_follow_the_body() -> None:
    after = call().with_body(model="other", stream=True)
    assert (after.model, after.stream) == ("other", True)
    assert call(stream=True).with_body(stream="yes").stream is False
    assert call().replace(body={"prompt": "x"}).model == "m"


def test_the_model_of_a_path_is_not_taken_from_a_body() -> None:
    after = call(endpoint="model", body=freeze({}), model="m").replace(body={"model": "x"})
    assert after.model == "m"


def test_notes_and_reply_headers_are_added_and_frozen() -> None:
    after = call().note(a=1).note(b=[2]).replace(reply_headers={"x-a": "1"})
    assert after.notes == {"a": 1, "b": [2]}
    assert after.reply_headers == {"x-a": "1"}
    assert after.body is not None
    with pytest.raises(TypeError):
        after.notes["b"].append(3)


def test_every_text_of_a_call_and_of_a_reply_is_shown() -> None:
    assert [text.value for text in call().texts()] == ["model", "m", "prompt", "p", "n"]
    assert [text.value for text in Reply(status=200, body=freeze({"a": ["b"]})).texts()] == [
        "a",
        "b",
    ]


def test_a_reply_is_replaced_like_a_call() -> None:
    before = Reply(status=200, body=freeze({"a": 1}))
    after = before.with_body(b={"c": []}).replace(notes={"n": [1]})
    assert after.body == {"a": 1, "b": {"c": []}}
    assert before.body == {"a": 1}
    with pytest.raises(TypeError):
        after.body["b"]["c"].append(1)
    assert before.replace(status=201).status == 201


def test_the_time_left_is_never_below_zero() -> None:
    assert call(deadline=time.monotonic() - 5).seconds_left() == 0
    assert 0 < call(deadline=time.monotonic() + 60).seconds_left() <= 60


def test_credentials_never_print() -> None:
    shown = repr(Credentials(caller=Secret("sk-canary"), provider=Secret("sk-canary")))
    upstream = Upstream(
        name="a", provider="p", base_url="https://x", credential=Secret("sk-canary")
    )
    assert "sk-canary" not in shown + repr(upstream)


def test_limits_and_timeouts_know_no_other_names() -> None:
    for kind in (Limits, Timeouts):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"bodybytes": 1}, kind)


def test_a_record_is_written_as_json() -> None:
    record = Record(id="1", time="now", endpoint="chat", outcome="ok", status=200, seconds=0.1)
    told = msgspec.json.decode(msgspec.json.encode(record))
    assert (told["id"], told["outcome"], told["status"]) == ("1", "ok", 200)


def test_a_refusal_is_a_400_unless_it_says_otherwise() -> None:
    assert Deny("No.").status == 400


def test_a_provider_speaks_all_endpoints_unless_it_says_otherwise() -> None:
    provider = Provider(name="p")
    assert set(provider.paths) == {"completions", "chat", "embeddings", "models", "model"}
    assert (provider.credential_header, provider.credential_prefix) == ("authorization", "Bearer ")
