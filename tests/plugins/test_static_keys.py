import hashlib
from pathlib import Path
from typing import Any

import pytest

from proxy import ConfigError, Secret
from proxy.testing import Result, harness
from tests.gateway import KEY, UPSTREAM_KEY, gateway, refused

ALICE = "alice-key-0123456789"
BOB = "bob-key-0123456789-0"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"use": "static_keys", "options": {"keys": list(entries)}}


def called(headers: dict[str, str], *entries: dict[str, Any]) -> Result:
    known = entries or ({"name": "alice", "groups": ["eng"], "sha256": digest(ALICE)},)
    return harness("static_keys", keys=list(known)).given(headers=headers).completions()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ALICE}"},
        {"authorization": f"bearer {ALICE}"},
        {"Authorization": f"BEARER   {ALICE} "},
        {"authorization": ALICE},
        {"x-portkey-api-key": ALICE},
        {"x-api-key": ALICE},
        {"api-key": ALICE},
        {"x-portkey-api-key": ALICE, "authorization": "Bearer OPENAI_API_KEY"},
        {"x-portkey-api-key": "", "authorization": f"Bearer {ALICE}"},
        {"x-portkey-api-key": ALICE, "authorization": f"Bearer {ALICE}"},
    ],
)
def test_a_key_is_known_in_every_header_and_spelling(headers: dict[str, str]) -> None:
    result = called(headers)
    assert result.denied is None
    assert (result.record.principal, result.record.groups) == ("alice", ("eng",))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer OPENAI_API_KEY"},
        {"authorization": "Bearer None"},
        {"authorization": f"Bearer {ALICE[:-1]}"},
        {"authorization": f"Bearer {ALICE}x"},
        {"authorization": f"Basic {ALICE}"},
        {"authorization": f"Bearer {ALICE.upper()}"},
        {"authorization": "Bearer ' OR 1=1--"},
        {"authorization": "Bearer \x00\x01"},
        {"authorization": "Bearer k\xe9y-0123456789-0123"},
        {"authorization": f"Bearer {digest(ALICE)}"},
        {"authorization": "Bearer " + "x" * 8000},
    ],
)
def test_every_other_credential_gets_the_same_refusal(headers: dict[str, str]) -> None:
    result = called(headers)
    assert result.denied is not None
    assert (result.denied.status, result.denied.code) == (401, "invalid_api_key")
    assert result.denied == called({"authorization": "Bearer unknown-key-0123456789"}).denied
    assert result.body is None


def test_the_refusal_is_the_same_to_the_byte() -> None:
    with gateway() as gate:
        answers = [
            gate.ask({}, [("Content-Type", "application/json"), *shown])
            for shown in (
                [],
                [("Authorization", "Bearer wrong-key-0123456789")],
                [("Authorization", f"Bearer {KEY}x")],
                [("X-Portkey-Api-Key", "' OR 1=1--")],
            )
        ]
        assert len({answer.body for answer in answers}) == 1
        refused(answers[0], 401, "invalid_api_key")
        assert gate.upstream.requests == []
        assert gate.record(4).principal is None


def test_keys_that_begin_alike_are_different_callers() -> None:
    start = "k" * 64
    entries = (
        {"name": "one", "sha256": digest(f"{start}1")},
        {"name": "two", "sha256": digest(f"{start}2")},
    )
    for name, end in (("one", "1"), ("two", "2")):
        result = called({"authorization": f"Bearer {start}{end}"}, *entries)
        assert result.record.principal == name
    assert called({"authorization": f"Bearer {start}"}, *entries).denied is not None


def test_every_listed_key_is_compared_whichever_fits() -> None:
    entries = tuple({"name": f"n{i}", "sha256": digest(f"key-{i}-0123456789")} for i in range(50))
    for i in (0, 25, 49):
        result = called({"authorization": f"Bearer key-{i}-0123456789"}, *entries)
        assert result.record.principal == f"n{i}"


def test_one_caller_may_have_two_keys_while_they_are_exchanged() -> None:
    entries = ({"name": "a", "sha256": digest(ALICE)}, {"name": "a", "sha256": digest(BOB)})
    for key in (ALICE, BOB):
        assert called({"x-api-key": key}, *entries).record.principal == "a"


def test_keys_come_from_the_environment_and_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALICE", ALICE)
    (tmp_path / "bob").write_text(f"{BOB}\n")
    entries = (
        {"name": "alice", "key": {"env": "ALICE"}},
        {"name": "bob", "key": {"file": str(tmp_path / "bob")}},
    )
    assert called({"x-api-key": ALICE}, *entries).record.principal == "alice"
    assert called({"x-api-key": BOB}, *entries).record.principal == "bob"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "keys is empty"),
        ([{"name": "a"}], "either key"),
        ([{"name": "a", "key": Secret(ALICE), "sha256": digest(ALICE)}], "not both"),
        ([{"name": "a", "key": Secret("short")}], "can be guessed"),
        ([{"name": "a", "key": Secret("")}], "can be guessed"),
        ([{"name": "a", "key": {"env": "NOWHERE"}}], "NOWHERE"),
        ([{"name": "a", "key": ALICE}], "never stands in the configuration"),
        ([{"name": "a", "sha256": "abc"}], "64 hex digits"),
        ([{"name": "a", "sha256": "x" * 64}], "64 hex digits"),
        ([{"name": "a", "sha256": ""}], "64 hex digits"),
        ([{"name": "a", "sha256": digest("")}], "empty text"),
        ([{"name": "a", "sha256": digest(ALICE)}] * 2, "the same key"),
        (
            [{"name": "a", "sha256": digest(ALICE)}, {"name": "b", "key": Secret(ALICE)}],
            "the same key",
        ),
        ([{"nam": "a"}], "Did you mean 'name'"),
    ],
)
def test_an_entry_that_is_no_key_stops_the_start(entries: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        harness("static_keys", keys=entries)
    assert ALICE not in str(caught.value)


def test_no_key_is_seen_in_what_the_plugin_shows_of_itself() -> None:
    loaded = harness("static_keys", keys=[{"name": "a", "key": Secret(ALICE)}])
    (step,) = loaded.parts.chain.identify
    assert ALICE not in repr(step)
    assert digest(ALICE) not in repr(step)


def test_no_key_reaches_the_upstream_or_the_record() -> None:
    with gateway() as gate:
        assert gate.ask({"model": "m", "prompt": "Hello"}).status == 200
        (request,) = gate.upstream.requests
        assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
        assert KEY not in repr(request.headers)
        assert KEY not in repr(gate.record())
