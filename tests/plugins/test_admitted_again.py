"""Calls that are sent as another model: budgets and limits go by what is sent, and nothing counts twice."""

import json
import time
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.store import Store, StoreTable
from proxy.store.entries import Balance
from tests.gateway import COMPLETION, REPLY, Answer, bearer, read_answer
from tests.several import several
from tests.upstream import Script, json_reply, rst, silent

PRICES: Final = [
    {"models": ["m", "small"], "input": 1.0, "output": 2.0},
    {"models": ["dear"], "input": 100.0, "output": 200.0},
]
PURSE: Final = {"name": "purse", "per": "key", "money": 0.01, "every": "lifetime"}
BUSY: Final = json_reply({"error": {"message": "busy"}}, 503)
#: "m" at first, then another model.
ALIASES: Final = {
    "upstreams": [{"upstream": "a", "model": "small"}, {"upstream": "b", "model": "dear"}],
    "on": [503],
}
#: Within the purse for a cheap model, far beyond it for a dear one.
CALL: Final = {**COMPLETION, "max_tokens": 50}


def reply(prompt: int, completion: int) -> Script:
    total = prompt + completion
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return json_reply({**REPLY, "usage": usage})


def settings(
    path: Path, *budgets: dict[str, Any], more: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    plugin = {"use": "budget", "options": {"budgets": list(budgets or [PURSE])}}
    return {
        "plugins": [plugin, *(more or [])],
        "store": {"url": f"sqlite:///{path / 'outgate.db'}"},
        "prices": PRICES,
    }


def opened(path: Path) -> Store:
    return Store(StoreTable(url=f"sqlite:///{path / 'outgate.db'}"))


def purse(path: Path, budget: str = "purse", subject: str = "alice", unit: str = "USD") -> Balance:
    store = opened(path)
    try:
        return store.ledger.balance(budget, subject, "lifetime", unit)
    finally:
        store.close()


def booked(path: Path) -> dict[str, dict[str, int]]:
    """By model: the sums that are not zero."""
    store = opened(path)
    try:
        rows = store.usage.report(["model"])
    finally:
        store.close()
    return {
        row["model"]: {name: n for name, n in row.items() if isinstance(n, int) and n}
        for row in rows
    }


def exhausted(answer: Answer) -> str:
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota"), answer.body
    return str(answer.error["message"])


# -- budgets -------------------------------------------------------------------------------------


def test_a_fallback_to_a_dearer_model_is_refused_where_the_budget_is_short(tmp_path: Path) -> None:
    known = settings(tmp_path)
    with several({"a": [BUSY], "b": [reply(1, 1)]}, ALIASES, **known) as (gate, servers):
        message = exhausted(gate.ask(CALL))
        record = gate.record()
        assert (len(servers["a"].requests), len(servers["b"].requests)) == (1, 0)
    assert "has 0.01 USD left of 0.01 USD" in message
    assert (record.denied_by, record.attempts) == ("budget", 1)
    assert purse(tmp_path) == Balance()
    assert booked(tmp_path) == {"small": {"calls": 1, "refused": 1}}


def test_a_fallback_is_reserved_and_paid_at_the_price_of_its_own_model(tmp_path: Path) -> None:
    rich = {**PURSE, "money": 1.0}
    known = settings(tmp_path, rich)
    with several({"a": [BUSY], "b": [silent()]}, ALIASES, **known) as (gate, servers):
        with gate.send(CALL):
            servers["b"].wait_for(lambda: len(servers["b"].requests) == 1)
            held = purse(tmp_path).reserved
        gate.record()
    # Fifty tokens of an answer cost 0.01 of the dear model and 0.0001 of the other.
    assert 0.01 * 10**9 < held < 0.03 * 10**9
    with several({"a": [BUSY], "b": [reply(10, 20)]}, ALIASES, **known) as (gate, _):
        before = purse(tmp_path)
        assert gate.ask(CALL).status == 200
        gate.record()
    after = purse(tmp_path)
    assert (after.settled - before.settled, after.reserved) == (10 * 100_000 + 20 * 200_000, 0)
    assert booked(tmp_path)["dear"]["completion_tokens"] == 20


def test_each_models_own_budget_pays_for_what_it_was_sent(tmp_path: Path) -> None:
    each = {"name": "each", "per": "model", "tokens": 1000, "every": "lifetime"}
    with several({"a": [BUSY], "b": [reply(3, 4)]}, ALIASES, **settings(tmp_path, each)) as (
        gate, _,
    ):  # fmt: skip
        assert gate.ask(CALL).status == 200
        gate.record()
    found = {model: purse(tmp_path, "each", model, "tokens") for model in ("m", "small", "dear")}
    assert found == {"m": Balance(), "small": Balance(), "dear": Balance(7, 0)}


def test_retries_of_one_call_are_one_call_in_the_book(tmp_path: Path) -> None:
    retry = {"upstreams": ["a"], "retry": {"attempts": 3, "on": [503], "base": 0.01, "most": 0.01}}
    known = settings(tmp_path)
    with several({"a": [BUSY, BUSY, reply(1, 1)]}, retry, **known) as (gate, _):
        assert gate.ask(CALL).status == 200
        assert gate.record().attempts == 3
    assert booked(tmp_path)["m"] == {
        "calls": 1, "prompt_tokens": 1, "completion_tokens": 1, "cost": 3000,
    }  # fmt: skip


@pytest.mark.parametrize("last", [[BUSY], None])
def test_a_call_that_got_errors_and_reached_nobody_else_costs_nothing(
    tmp_path: Path, last: list[Script] | None
) -> None:
    known = settings(tmp_path, {**PURSE, "money": 1.0})
    with several({"a": [BUSY], "b": last}, ALIASES, **known) as (gate, _):
        assert gate.ask(CALL).status in {502, 503}
        gate.record()
    assert purse(tmp_path) == Balance()


def test_a_call_that_is_refused_after_a_try_without_an_answer_pays_for_that_try(
    tmp_path: Path,
) -> None:
    route = {**ALIASES, "unanswered": True}
    with several({"a": [rst()], "b": [reply(1, 1)]}, route, **settings(tmp_path)) as (
        gate,
        servers,
    ):
        exhausted(gate.ask(CALL))
        sent = gate.record().bytes_sent
        assert servers["b"].requests == []
    assert purse(tmp_path) == Balance(-(-sent // 4) * 1000, 0)
    assert booked(tmp_path)["small"]["estimated"] == 1


def test_a_store_that_fails_in_between_refuses_and_gives_everything_back(tmp_path: Path) -> None:
    route = {**ALIASES, "on": [503], "retry": {"attempts": 2, "on": [503], "base": 1, "most": 1}}
    known = settings(tmp_path, {**PURSE, "money": 1.0})
    with several({"a": [BUSY, BUSY], "b": [reply(1, 1)]}, route, **known) as (gate, servers):
        with gate.send(CALL) as sock:
            servers["a"].wait_for(lambda: len(servers["a"].requests) == 1)
            store = opened(tmp_path)
            with store.database.driver(write=True):
                servers["a"].wait_for(lambda: len(servers["a"].requests) == 2)
                answer = read_answer(sock)
            store.close()
        assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
        gate.record()
        gate.upstream.wait_for(lambda: purse(tmp_path) == Balance())
    assert booked(tmp_path)["small"] == {"calls": 1, "refused": 1}


CONFIG: Final = {"virtual_key": "main", "override_params": {"model": "dear"}}
PORTKEY: Final = {"use": "portkey", "options": {"virtual_keys": {"main": "a"}}}


def test_the_model_of_a_portkey_config_is_what_counts(tmp_path: Path) -> None:
    headers = [*bearer(), ("x-portkey-config", json.dumps(CONFIG))]
    each = {"name": "each", "per": "model", "tokens": 1000, "every": "lifetime"}
    known = settings(tmp_path, PURSE, each, more=[PORTKEY])
    with several({"a": [reply(3, 4)]}, {"upstreams": ["a"]}, **known) as (gate, servers):
        assert gate.ask(CALL).status == 200
        assert "may come to 0.01" in exhausted(gate.ask(CALL, headers))
        assert gate.ask({**CALL, "max_tokens": 5}, headers).status == 200
        gate.record(3)
        assert [request.json()["model"] for request in servers["a"].requests] == ["m", "dear"]
    assert purse(tmp_path) == Balance(3 * 1000 + 4 * 2000 + 3 * 100_000 + 4 * 200_000, 0)
    assert purse(tmp_path, "each", "dear", "tokens") == Balance(7, 0)
    assert purse(tmp_path, "each", "m", "tokens") == Balance(7, 0)


def test_hits_of_the_cache_are_counted_apart_and_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_SECRET", "a secret of thirty-two characters")
    options = {"path": str(tmp_path / "cache.db"), "secret": {"env": "CACHE_SECRET"}}
    cache = {"use": "response_cache", "options": options}
    body = {**CALL, "temperature": 0}
    known = settings(tmp_path, more=[cache])
    with several({"a": [reply(3, 4)]}, {"upstreams": ["a"]}, **known) as (gate, servers):
        assert gate.ask(body).status == 200
        gate.record(1)
        deadline = time.monotonic() + 60
        while gate.ask(body).header("age") is None:
            assert time.monotonic() < deadline
        asked = len(servers["a"].requests)
        gate.upstream.wait_for(lambda: purse(tmp_path).reserved == 0)
        page = gate.ask(path="/v1/usage", method="GET").json()
    (row,) = page["data"]
    assert (row["calls"], row["cached"]) == (asked + 1, 1)
    assert row["prompt_tokens"] == 3 * asked
    assert purse(tmp_path) == Balance(11_000 * asked, 0)


# -- limits --------------------------------------------------------------------------------------


def test_limits_count_the_model_that_is_sent_and_each_call_once(tmp_path: Path) -> None:
    rules = [
        {"per": "key", "requests": "3/hour"},
        {"per": "model", "requests": "2/hour", "concurrent": 1},
    ]
    limits = {"use": "rate_limit", "options": {"rules": rules, "path": str(tmp_path / "l.db")}}
    answers = {"a": [BUSY, BUSY, BUSY], "b": [reply(1, 1)]}
    with several(answers, ALIASES, plugins=[limits]) as (gate, servers):
        found = [gate.ask(CALL) for _ in range(2)]
        assert [answer.status for answer in found] == [200, 200]
        # A third of the dear model is too much, though its key has one left.
        refused = gate.ask(CALL)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert "2 requests per hour for model 'dear'" in refused.error["message"]
        assert gate.ask(CALL).error["message"].startswith("Rate limit reached: 3 requests")
        assert len(servers["b"].requests) == 2
