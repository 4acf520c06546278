import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import ConfigError
from proxy.app import assemble
from proxy.config import parse
from proxy.store import Store
from proxy.store.grant import Grant
from tests.gateway import (
    COMPLETION,
    JSON,
    REPLY,
    Answer,
    Gateway,
    Headers,
    document,
    gateway,
    refused,
)
from tests.store.servers import PEPPER, opened
from tests.upstream import ScriptedUpstream, json_reply

PLUGIN = {"use": "virtual_keys"}
STRANGER = "og-" + "x" * 43
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def pepper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PEPPER", PEPPER)


def section(url: str) -> dict[str, Any]:
    return {"url": url, "pepper": {"env": "TEST_PEPPER"}}


@contextmanager
def guarded(url: str, **sections: Any) -> Iterator[tuple[Gateway, Store]]:
    """A gateway with virtual keys, and the store as the operator has it."""
    with gateway(plugins=[PLUGIN], store=section(url), **sections) as gate:
        yield gate, opened(url)


def create(store: Store, name: str = "alice", **grant: Any) -> str:
    return store.keys.create(Grant(name=name, **grant))[1].reveal()


def bearer(secret: str) -> Headers:
    return [JSON, ("Authorization", f"Bearer {secret}")]


def ask(gate: Gateway, secret: str, body: Any = COMPLETION, **given: Any) -> Answer:
    return gate.ask(body, bearer(secret), **given)


# -- who calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Authorization", "X-Portkey-Api-Key", "X-Api-Key", "Api-Key"])
def test_a_key_is_known_in_every_header(store_url: str, header: str) -> None:
    with guarded(store_url) as (gate, store):
        secret = create(store, owner="a@example.com", team="research", groups=("staff", "research"),
                        metadata={"cost": "42"})  # fmt: skip
        assert gate.ask(COMPLETION, [JSON, (header, secret)]).status == 200
        record = gate.record()
        key = store.keys.get("alice")
    assert (record.principal, record.groups) == ("alice", ("staff", "research"))
    assert record.metadata == {
        "key": key.id,
        "owner": "a@example.com",
        "team": "research",
        "cost": "42",
    }
    assert secret not in repr(record)


def test_labels_that_are_not_given_are_left_out(store_url: str) -> None:
    with guarded(store_url) as (gate, store):
        assert ask(gate, create(store)).status == 200
        assert gate.record().metadata == {"key": store.keys.get("alice").id}


def test_other_plugins_still_know_their_callers(store_url: str) -> None:
    with guarded(store_url) as (gate, _):
        assert gate.ask(COMPLETION).status == 200
        assert gate.record().principal == "alice"
        assert gate.record().metadata == {}


def test_the_groups_of_a_key_close_over_the_teams(store_url: str) -> None:
    teams = {"company": {"models": ["m"]}, "research": {"parent": "company"}}
    with guarded(store_url, teams=teams) as (gate, store):
        secret = create(store, team="research")
        assert ask(gate, secret).status == 200
        assert gate.record().groups == ("research", "company")
        error = refused(ask(gate, secret, {**COMPLETION, "model": "n"}), 403, "model_not_allowed")
        assert "'company'" in error["message"]


# -- strangers -----------------------------------------------------------------------------------

HOSTILE = [
    STRANGER,
    "og-",
    "og-" + "x" * 42,
    "og-" + "x" * 44,
    "' OR 1=1--",
    "og-' OR '1'='1' -- xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    'og-"; DROP TABLE outgate_keys; --',
    "og-%00" + "x" * 40,
    "og-\\x00" + "x" * 40,
    "og-" + "x" * 7990,
    "og-" + "\xe9" * 43,
    "og-" + "\xff\xfe" * 21 + "x",
    f"{STRANGER}, Bearer {STRANGER}",
    f"{STRANGER},",
    f"{STRANGER} {STRANGER}",
    f"{STRANGER}\t",
    "Bearer Bearer " + STRANGER,
    "key_0123456789abcdef",
]


def test_every_stranger_gets_one_answer_to_the_byte(store_url: str) -> None:
    with guarded(store_url) as (gate, store):
        live, dead, late = (create(store, name) for name in ("live", "dead", "late"))
        far = create(store, "far", networks=("192.0.2.0/24",))
        store.keys.revoke("dead")
        store.keys.rotate("late", 0)
        shown: list[Headers] = [
            *(bearer(text) for text in (*HOSTILE, dead, late, far, live[:-1], live.upper())),
            *([JSON, (name, text)] for name in ("X-Api-Key", "Api-Key") for text in HOSTILE),
            [JSON],
            [*bearer(live), ("Authorization", f"Bearer {live}")],
            [*bearer(live), ("Authorization", f"Bearer {STRANGER}")],
        ]
        answers = [gate.ask(COMPLETION, headers) for headers in shown]
        for headers, answer in zip(shown, answers, strict=True):
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), headers
        assert len({answer.body for answer in answers}) == 1
        names = {tuple(sorted(name for name, _ in answer.headers)) for answer in answers}
        assert len(names) == 1
        assert ask(gate, live).status == 200
        assert len(gate.upstream.requests) == 1
        gate.record(len(shown) + 1)
        assert {record.principal for record in gate.records} == {None, "live"}


def test_a_nul_never_comes_as_far_as_the_store(store_url: str) -> None:
    """The server refuses it; whatever it says, it is no yes and no fault."""
    with guarded(store_url) as (gate, store):
        answer = ask(gate, f"{create(store)[:-1]}\x00")
        assert answer.status in (400, 401)
        assert b"Traceback" not in answer.body
        assert gate.upstream.requests == []


def test_arbitrary_credentials_are_strangers(tmp_path: Path) -> None:
    with guarded(f"sqlite:///{tmp_path / 'outgate.db'}") as (gate, store):
        secret = create(store)
        constant = ask(gate, STRANGER).body
        visible = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
        mutated = st.tuples(st.integers(0, 45), visible).map(
            lambda change: secret[: change[0]] + change[1] + secret[change[0] + 1 :]
        )
        texts = st.one_of(st.text(visible, max_size=600), mutated)

        @given(texts)
        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def prove(text: str) -> None:
            answer = gate.ask(COMPLETION, [JSON, ("Authorization", f"Bearer {text}")])
            if text.strip() != secret:
                assert (answer.status, answer.body) == (401, constant), text

        prove()
        assert all(record.principal in (None, "alice") for record in gate.records)


# -- what a key is for ---------------------------------------------------------------------------


def test_a_key_is_for_its_models_and_endpoints(store_url: str) -> None:
    with guarded(store_url) as (gate, store):
        secret = create(store, models=("gpt-*", "m"), endpoints=("completions", "model*"))
        assert ask(gate, secret).status == 200
        error = refused(ask(gate, secret, {**COMPLETION, "model": "o3"}), 403, "model_not_allowed")
        assert "'o3'; it is for gpt-*, m" in error["message"]
        assert error["param"] == "model"
        chat = ask(gate, secret, CHAT, path="/v1/chat/completions")
        assert "completions, model*" in refused(chat, 403, "endpoint_not_allowed")["message"]
        assert ask(gate, secret, None, path="/v1/models", method="GET").status == 200
        one = ask(gate, secret, None, path="/v1/models/o3", method="GET")
        refused(one, 403, "model_not_allowed")
        gate.record(5)
        assert [record.denied_by for record in gate.records].count("virtual_keys") == 3


def test_a_key_is_for_its_networks(store_url: str) -> None:
    with guarded(store_url) as (gate, store):
        near = create(store, "near", networks=("127.0.0.0/8", "10.0.0.0/8"))
        assert ask(gate, near).status == 200
        # The test speaks from loopback, where the trusted web server stands.
        for client, status in (("10.1.1.1", 200), ("192.0.2.1", 401), ("nonsense", 200)):
            headers = [*bearer(near), ("X-Forwarded-For", client)]
            assert gate.ask(COMPLETION, headers).status == status, client


def upstream(url: str, variable: str) -> dict[str, Any]:
    os.environ[variable] = f"sk-{variable}-0123456789"
    return {
        "provider": "openai_compatible",
        "base_url": f"{url}/v1",
        "credential": {"env": variable},
        "allow_private": True,
    }


def test_a_key_can_have_an_upstream_of_its_own(store_url: str) -> None:
    with ScriptedUpstream(json_reply(REPLY)) as main, ScriptedUpstream(json_reply(REPLY)) as other:
        upstreams = {
            "main": upstream(main.url, "TEST_MAIN"),
            "other": upstream(other.url, "TEST_OTHER"),
            "gone": upstream("http://127.0.0.1:1", "TEST_GONE"),
        }
        with guarded(store_url, upstreams=upstreams) as (gate, store):
            assert ask(gate, create(store, "own", upstream="other")).status == 200
            assert other.requests[0].header("authorization") == "Bearer sk-TEST_OTHER-0123456789"
            # No other credential is for this key, so nothing else is tried.
            assert ask(gate, create(store, "bound", upstream="gone")).status == 502
            lost = ask(gate, create(store, "lost", upstream="former"))
            assert (lost.status, lost.error["code"]) == (502, "no_such_upstream")
        assert main.requests == []


# -- changes -------------------------------------------------------------------------------------


def command(path: Path, *words: str) -> Any:
    """What the operator's command says, in a process of its own."""
    run = [sys.executable, "-m", "proxy.cli", "keys", *words, "--json", "--config", str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_second_process_makes_rotates_and_revokes(
    store_url: str, tmp_path: Path, record_property: Any
) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "{store_url}"\npepper = {{ env = "TEST_PEPPER" }}\n')
    with guarded(store_url) as (gate, _):
        made = command(path, "create", "alice")
        assert ask(gate, made["secret"]).status == 200
        turned = command(path, "rotate", "alice", "--overlap", "1h")
        assert ask(gate, turned["secret"]).status == 200
        assert ask(gate, made["secret"]).status == 200
        command(path, "revoke", made["id"])
        revoked = time.monotonic()
        while ask(gate, made["secret"]).status == 200:
            assert time.monotonic() < revoked + 60
        record_property(
            "figure", f"refused {time.monotonic() - revoked:.2f} s after outgate keys revoke"
        )
        time.sleep(max(0.0, revoked + 1 - time.monotonic()))
        for secret in (made["secret"], turned["secret"]):
            refused(ask(gate, secret), 401, "invalid_api_key")


# -- faults --------------------------------------------------------------------------------------


def test_without_its_database_it_refuses_and_says_when_to_come_again(tmp_path: Path) -> None:
    file = tmp_path / "outgate.db"
    with guarded(f"sqlite:///{file}") as (gate, store):
        secret = create(store)
        assert ask(gate, secret).status == 200
        store.close()
        gate.pipeline.parts.store.close()  # type: ignore[union-attr]
        file.write_bytes(b"This is no database." * 1000)
        time.sleep(1)
        answer = ask(gate, secret)
        assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
        assert answer.header("retry-after") == "5"
        assert b"Traceback" not in answer.body
        # What cannot be a key needs no database to be refused.
        assert ask(gate, "wrong-key-0123456789").status == 401


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (None, r"add \[store\]"),
        ({"url": "sqlite:///x.db"}, "pepper is missing"),
        ({"url": "sqlite:///x.db", "pepper": {"env": "TEST_SHORT"}}, "can be guessed"),
        ({"url": "sqlite:///x.db", "pepper": {"env": "TEST_NONE"}}, "'TEST_NONE' is not set"),
    ],
)
def test_without_a_store_and_a_pepper_it_does_not_start(
    store: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SHORT", "0123456789")
    sections = {"store": store} if store else {}
    settings = document("http://127.0.0.1:1", "unused", plugins=[PLUGIN], **sections)
    with pytest.raises(ConfigError, match=message):
        assemble(parse(settings))


def test_with_another_pepper_it_does_not_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'outgate.db'}"
    create(opened(url, PEPPER[::-1]))
    with pytest.raises(ConfigError, match="not the one that the keys"), guarded(url):
        pass
