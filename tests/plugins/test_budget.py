import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.budget.bounds import Bounds, Tokens, reached
from plugins.budget.periods import period
from plugins.budget.rules import Who
from proxy import Call, ConfigError, Failure, Principal, Record, Usage
from proxy.app import create_app
from proxy.config import parse
from proxy.store import Store, StoreTable
from proxy.store.entries import Balance
from tests.gateway import CHOICE, COMPLETION, KEY, REPLY, STREAMED, Gateway, bearer, chunk, gateway
from tests.upstream import json_reply, rst, silent, sse

PRICES: Final = [{"models": ["m*"], "input": 1.0, "cached": 0.5, "output": 2.0}]
TOKENS: Final = {"name": "daily", "per": "key", "tokens": 1000, "every": "lifetime"}
MONEY: Final = {"name": "purse", "per": "key", "money": 0.001, "every": "lifetime"}
BOUNDS: Final = Bounds(1.0, 4.0, 0, 0, 500)


def budget(*budgets: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return {"use": "budget", "options": {"budgets": list(budgets), **options}}


def settings(path: Path, *budgets: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The sections of a gateway with a budget."""
    return {
        "plugins": [budget(*budgets, **options)],
        "store": {"url": f"sqlite:///{path / 'outgate.db'}"},
        "prices": PRICES,
    }


def opened(path: Path) -> Store:
    return Store(StoreTable(url=f"sqlite:///{path / 'outgate.db'}"))


def spent(path: Path, name: str = "daily", unit: str = "tokens", subject: str = "alice") -> Balance:
    store = opened(path)
    try:
        return store.ledger.balance(name, subject, "lifetime", unit)
    finally:
        store.close()


def used(path: Path, by: str = "key") -> dict[str, int]:
    """The one row of the book, without zeros and names."""
    store = opened(path)
    try:
        (row,) = store.usage.report([by])
    finally:
        store.close()
    return {name: count for name, count in row.items() if isinstance(count, int) and count}


def reply(prompt: int, completion: int, cached: int = 0) -> Any:
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, **details}
    return json_reply({**REPLY, "usage": {**usage, "total_tokens": prompt + completion}})


def exhausted(gate: Gateway, body: Mapping[str, Any] = COMPLETION) -> str:
    answer = gate.ask(body)
    assert answer.status == 429, answer.body
    assert answer.header("x-should-retry") == "false"
    assert (answer.error["code"], answer.error["type"]) == ("insufficient_quota",) * 2
    return str(answer.error["message"])


# -- whole calls ---------------------------------------------------------------------------------


def test_what_a_call_cost_is_taken_from_the_budget_until_it_is_empty(tmp_path: Path) -> None:
    with gateway(reply(300, 400), reply(100, 170), **settings(tmp_path, TOKENS)) as gate:
        assert gate.ask(COMPLETION).status == 200
        gate.record(1)
        assert gate.ask(COMPLETION).status == 200
        gate.record(2)
        gate.upstream.wait_for(lambda: spent(tmp_path) == Balance(970, 0))
        message = exhausted(gate)
        gate.record(3)
    assert "The budget 'daily' of the key 'alice' has 30 tokens left of 1000 tokens" in message
    assert "It does not reset." in message
    assert len(gate.upstream.requests) == 2
    assert used(tmp_path) == {
        "calls": 3, "refused": 1, "prompt_tokens": 400, "completion_tokens": 570,
        "cost": 400 * 1000 + 570 * 2000,
    }  # fmt: skip


def test_money_is_counted_with_the_price_of_cached_tokens(tmp_path: Path) -> None:
    with gateway(reply(100, 10, cached=60), **settings(tmp_path, MONEY)) as gate:
        gate.ask(COMPLETION)
        gate.record()
    assert spent(tmp_path, "purse", "USD") == Balance(40 * 1000 + 60 * 500 + 10 * 2000, 0)
    assert used(tmp_path)["cached_tokens"] == 60


def test_while_the_upstream_works_the_most_a_call_may_cost_is_held_back(tmp_path: Path) -> None:
    with gateway(silent(), **settings(tmp_path, TOKENS)) as gate:
        with gate.send({**COMPLETION, "max_tokens": 700}):
            gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
            held = spent(tmp_path).reserved
            assert 700 < held < 800
            assert "left of 1000 tokens" in exhausted(gate, {**COMPLETION, "max_tokens": 400})
        gate.record(2)
    assert spent(tmp_path).reserved == 0


def test_a_budget_without_a_price_for_the_model_refuses_it_or_lets_it_pass(tmp_path: Path) -> None:
    other = {**COMPLETION, "model": "x"}
    with gateway(**settings(tmp_path, MONEY)) as gate:
        answer = gate.ask(other)
        assert (answer.status, answer.error["code"]) == (403, "model_not_priced")
        assert answer.error["param"] == "model"
        gate.record()
    with gateway(**settings(tmp_path, MONEY, unpriced="allow")) as gate:
        assert gate.ask(other).status == 200
        gate.record()
    assert spent(tmp_path, "purse", "USD") == Balance()
    assert used(tmp_path, "key")["prompt_tokens"] == 1


def test_a_price_in_another_currency_is_no_price(tmp_path: Path) -> None:
    euro = {**MONEY, "currency": "EUR"}
    known = settings(tmp_path, euro)
    known["prices"] = [*PRICES, {"models": ["e"], "input": 1, "currency": "EUR"}]
    with gateway(**known) as gate:
        assert gate.ask(COMPLETION).error["code"] == "model_not_priced"
        assert gate.ask({**COMPLETION, "model": "e"}).status == 200
        gate.record(2)


def test_without_usage_a_call_is_estimated_from_its_characters_and_says_so(tmp_path: Path) -> None:
    text = {**REPLY, "choices": [{**CHOICE, "text": "a" * 41}]}
    del text["usage"]
    with gateway(json_reply(text), **settings(tmp_path, TOKENS)) as gate:
        gate.ask(COMPLETION)
        sent = gate.record().bytes_sent
    assert used(tmp_path) == {
        "calls": 1, "estimated": 1, "prompt_tokens": -(-sent // 4), "completion_tokens": 11,
        "cost": -(-sent // 4) * 1000 + 11 * 2000,
    }  # fmt: skip


def test_a_stream_is_asked_for_its_usage_and_the_caller_does_not_see_it(tmp_path: Path) -> None:
    usage = {**chunk(""), "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
    events = sse([chunk("a"), chunk("", "stop"), usage, "[DONE]"])
    with gateway(events, **settings(tmp_path, TOKENS)) as gate:
        answer = gate.ask(STREAMED)
        gate.record()
        assert gate.upstream.requests[0].json()["stream_options"] == {"include_usage": True}
    assert b"prompt_tokens" not in answer.body
    assert spent(tmp_path) == Balance(12, 0)


def test_a_call_that_reached_nobody_costs_nothing_however_often_an_sdk_tries(
    tmp_path: Path,
) -> None:
    closed = {"base_url": "http://127.0.0.1:9/v1"}
    with gateway(upstream=closed, **settings(tmp_path, TOKENS)) as gate:
        for count in range(3):
            retried = ("x-stainless-retry-count", str(count))
            assert gate.ask(COMPLETION, [*bearer(), retried]).status == 502
        gate.record(3)
    assert spent(tmp_path) == Balance()
    assert used(tmp_path) == {"calls": 3, "failed": 3, "retries": 2}


def test_an_error_of_the_upstream_costs_nothing(tmp_path: Path) -> None:
    error = json_reply({"error": {"message": "no", "type": "server_error"}}, status=500)
    with gateway(error, **settings(tmp_path, TOKENS)) as gate:
        gate.ask(COMPLETION)
        gate.record()
    assert spent(tmp_path) == Balance()
    assert used(tmp_path) == {"calls": 1, "failed": 1}


def test_a_connection_that_broke_after_the_call_was_sent_is_paid_as_an_estimate(
    tmp_path: Path,
) -> None:
    with gateway(rst(), **settings(tmp_path, TOKENS)) as gate:
        gate.ask(COMPLETION)
        gate.record()
    found = used(tmp_path)
    assert (found["estimated"], found["failed"]) == (1, 1)
    assert spent(tmp_path) == Balance(found["prompt_tokens"], 0)


def test_a_call_that_is_refused_before_or_after_it_was_admitted_costs_nothing(
    tmp_path: Path,
) -> None:
    known = settings(tmp_path, TOKENS)
    guard = {"use": "regex_guard", "options": {"patterns": {"greeting": "Hello"}}}
    known["plugins"] = [*known["plugins"], guard]
    with gateway(routes=[{"models": ["other"], "upstreams": ["main"]}], **known) as gate:
        assert gate.ask(COMPLETION).error["code"] == "content_policy_violation"
        assert gate.ask({**COMPLETION, "prompt": "Hi"}).error["code"] == "model_not_found"
        gate.record(2)
    assert spent(tmp_path) == Balance()
    assert used(tmp_path) == {"calls": 2, "refused": 2}


def test_strangers_leave_no_trace_in_the_book(tmp_path: Path) -> None:
    with gateway(**settings(tmp_path)) as gate:
        assert gate.ask(COMPLETION, bearer("wrong-key-0123456789")).status == 401
        gate.record()
    store = opened(tmp_path)
    assert store.usage.report(["key"]) == []
    store.close()


def test_a_name_that_no_upstream_knows_is_not_kept(tmp_path: Path) -> None:
    error = json_reply({"error": {"message": "no such model"}}, status=404)
    with gateway(error, **settings(tmp_path)) as gate:
        gate.ask({**COMPLETION, "model": "=cmd|' /C calc'!A0"})
        gate.record()
    store = opened(tmp_path)
    assert [row["model"] for row in store.usage.report(["model"])] == [""]
    store.close()


def test_names_that_a_database_cannot_keep_are_kept_as_far_as_it_can(tmp_path: Path) -> None:
    rule = {**TOKENS, "per": "model"}
    with gateway(**settings(tmp_path, rule)) as gate:
        assert gate.ask({**COMPLETION, "model": "m\0" + "x" * 300}).status == 200
        gate.record()
    kept = "m\N{REPLACEMENT CHARACTER}" + "x" * 126
    assert spent(tmp_path, subject=kept).settled == 2


def test_every_team_of_the_caller_pays(tmp_path: Path) -> None:
    rule = {**TOKENS, "per": "team", "match": ["research", "company"]}
    known = settings(tmp_path, rule)
    teams = {"company": {}, "research": {"parent": "company"}, "ml": {"parent": "research"}}
    key = {"name": "bob", "groups": ["ml"], "key": {"env": "BOB_KEY"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOB_KEY", "bob-key-0123456789")
        bob = {"use": "static_keys", "name": "bob", "options": {"keys": [key]}}
        known["plugins"] = [bob, *known["plugins"]]
        with gateway(reply(1, 2), teams=teams, **known) as gate:
            assert gate.ask(COMPLETION, bearer("bob-key-0123456789")).status == 200
            gate.record()
    assert [spent(tmp_path, subject=team).settled for team in (*teams,)] == [3, 3, 0]


def test_calls_at_the_same_time_never_get_more_than_there_is(tmp_path: Path) -> None:
    body = {**COMPLETION, "max_tokens": 100}
    statuses: list[int] = []
    with gateway(reply(10, 10), **settings(tmp_path, {**TOKENS, "tokens": 500})) as gate:

        def spend() -> None:
            statuses.extend(gate.ask(body).status for _ in range(5))

        threads = [threading.Thread(target=spend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gate.record(40)
    assert spent(tmp_path) == Balance(20 * statuses.count(200), 0)
    assert 3 <= statuses.count(200) <= 25
    assert set(statuses) == {200, 429}


def test_a_store_that_does_not_answer_refuses_calls_under_a_budget(tmp_path: Path) -> None:
    with gateway(**settings(tmp_path, TOKENS)) as gate:
        store = opened(tmp_path)
        with store.database.driver(write=True):
            answer = gate.ask(COMPLETION)
        store.close()
        assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
        assert answer.header("retry-after") == "5"
        assert gate.ask(COMPLETION).status == 200
        gate.record(2)
    assert spent(tmp_path) == Balance(2, 0)
    assert used(tmp_path)["refused"] == 1


def test_where_errors_are_allowed_calls_pass_without_the_store_and_are_paid_later(
    tmp_path: Path,
) -> None:
    known = settings(tmp_path, TOKENS)
    known["plugins"][0]["on_error"] = "allow"
    known["store"]["lease"] = 1
    with gateway(**known) as gate:
        store = opened(tmp_path)
        with store.database.driver(write=True):
            assert gate.ask(COMPLETION).status == 200
            gate.record()
        store.close()
        gate.upstream.wait_for(lambda: spent(tmp_path) == Balance(2, 0))
    assert used(tmp_path)["calls"] == 1


# -- the page ------------------------------------------------------------------------------------


def test_a_caller_sees_what_its_own_key_used_and_what_is_left(tmp_path: Path) -> None:
    with gateway(reply(300, 400), **settings(tmp_path, TOKENS, MONEY_ALL)) as gate:
        gate.ask(COMPLETION)
        gate.record()
        answer = gate.ask(path="/v1/usage?since=7d&by=model,endpoint", method="GET")
        assert answer.status == 200
        page = answer.json()
        assert gate.ask(None, [], path="/v1/usage", method="GET").status == 401
        wrong = gate.ask(path="/v1/usage?by=modle", method="GET")
        assert wrong.status == 400
        assert "Did you mean 'model'?" in wrong.error["message"]
        assert gate.ask(path="/v1/usage?since=tomorrow", method="GET").status == 400
    assert (page["object"], page["key"]) == ("usage", "alice")
    (row,) = page["data"]
    assert (row["model"], row["endpoint"], row["cost"]) == ("m", "completions", "0.0011")
    # What everybody has spent together is not the caller's to know.
    assert page["budgets"] == [
        {
            "name": "daily", "per": "key", "subject": "alice", "unit": "tokens", "limit": 1000,
            "spent": 700, "reserved": 0, "left": 300, "resets": None,
        }
    ]  # fmt: skip


def test_the_page_says_when_the_store_does_not_answer(tmp_path: Path) -> None:
    known = settings(tmp_path, TOKENS)
    known["store"] = {"url": "postgresql://nobody@127.0.0.1:9/none"}  # nobody listens there
    with gateway(**known) as gate:
        answer = gate.ask(path="/v1/usage", method="GET")
    assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
    assert answer.header("retry-after") == "5"


MONEY_ALL: Final = {"name": "company", "per": "all", "money": 100.0}


# -- bounds --------------------------------------------------------------------------------------


def call(endpoint: str = "completions", **body: Any) -> Call:
    return Call(id="c", endpoint=endpoint, body=body, principal=Principal("p"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({}, 16),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": None}, 500),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ({"max_tokens": 5, "prompt": ["a", "b", "c"], "n": 2}, 30),
        ({"max_tokens": 5, "prompt": [[1, 2], [3]]}, 10),
        ({"max_tokens": 5, "prompt": [1, 2, 3]}, 5),
        ({"max_tokens": 10**30}, 10**12),
        ({"max_tokens": True}, 500),
        ({"max_tokens": -1}, 500),
    ],
)
def test_a_completion_answers_with_no_more_tokens_than_it_asks_for(
    body: dict[str, Any], answers: int
) -> None:
    assert BOUNDS.most(call(**{"prompt": "x", **body}), None).completion == answers


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({}, 500),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_completion_tokens": 7, "n": 2}, 14),
    ],
)
def test_a_chat_answers_with_no_more_than_it_asks_for_or_the_model_gives(
    body: dict[str, Any], answers: int
) -> None:
    chat = call("chat", messages=[{"role": "user", "content": "x"}], **body)
    assert BOUNDS.most(chat, None).completion == answers
    assert BOUNDS.most(call("chat", messages=[]), 99).completion == 99


@given(st.text(max_size=200))
def test_a_prompt_has_no_more_tokens_than_bytes(text: str) -> None:
    assert BOUNDS.most(call(prompt=text), None).prompt >= len(text.encode())


def test_tokens_that_are_sent_as_numbers_are_counted(tmp_path: Path) -> None:
    assert BOUNDS.most(call(prompt=[100_000] * 50), None).prompt < 100
    assert BOUNDS.most(call(prompt=[[100_000] * 50] * 2), None).prompt >= 100
    embedded = BOUNDS.most(call("embeddings", input=[[1, 2], [3]]), None)
    assert (embedded.completion, embedded.prompt >= 3) == (0, True)


def test_pictures_and_the_template_of_a_chat_count_too() -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]
    chat = call("chat", messages=[{"role": "user", "content": parts}])
    plain = BOUNDS.most(chat, None).prompt
    rich = Bounds(1.0, 4.0, 20, 300, 500).most(chat, None).prompt
    assert rich == plain + 320


def test_a_wrong_prediction_is_paid_as_output() -> None:
    chat = call("chat", max_tokens=5, messages=[], prediction={"content": "y" * 100})
    assert BOUNDS.most(chat, None).completion > 105


def record(**facts: Any) -> Record:
    known = {
        "id": "r",
        "time": "",
        "endpoint": "chat",
        "outcome": "ok",
        "status": 200,
        "seconds": 1,
    }
    return Record(**{**known, **facts})


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (Usage(3, 4, 7), Tokens(3, 4)),
        (Usage(3, 4, 7, 2), Tokens(3, 4, 2)),
        (Usage(3, None, 3), Tokens(3, 0)),
        (Usage(None, None, 9), Tokens(9, 0)),
        (Usage(3, 4, 20), Tokens(16, 4)),
        (Usage(-3, -4, -7), Tokens(0, 0)),
        (Usage(3, 4, 7, 999), Tokens(3, 4, 3)),
        (Usage(10**30, 4), Tokens(10**12, 4)),
    ],
)
def test_the_upstreams_count_is_taken_as_far_as_it_makes_sense(
    usage: Usage, tokens: Tokens
) -> None:
    assert BOUNDS.spent(record(upstream_status=200, usage=usage), Tokens()) == tokens


def tried(*kinds: str, **facts: Any) -> Record:
    """A call whose tries all failed; a number is the status of an answer."""
    failures = tuple(
        Failure("main", "status", "", status=int(kind)) if kind.isdigit() else Failure("main", kind, "")
        for kind in kinds
    )  # fmt: skip
    sent = sum(kind != "circuit_open" for kind in kinds)
    return record(**{"failures": failures, "attempts": sent, "upstream": "main", **facts})


@pytest.mark.parametrize(
    "found",
    [
        record(),
        tried("connect"),
        tried("tls"),
        tried("resolve"),
        tried("circuit_open"),
        tried("503"),
        tried("503", "connect", "circuit_open"),
        record(upstream_status=429, attempts=1, upstream="main"),
        tried("503", "connect", upstream_status=503),
        # The body of an error broke off.
        tried("cut", upstream_status=500),
        tried("503", "cut", upstream_status=500),
        # The caller hung up during a pause.
        tried("503", "client_gone", attempts=1),
        tried("connect", "circuit_open", "deadline", attempts=1),
        record(answered_by="response_cache", usage=Usage(3, 4, 7)),
    ],
)
def test_what_nobody_has_worked_on_costs_nothing(found: Record) -> None:
    assert BOUNDS.spent(found, Tokens(9, 9)) == Tokens()


@pytest.mark.parametrize(
    "found",
    [
        record(upstream_status=200),
        tried("cut"),
        tried("timeout_first_byte"),
        tried("client_gone"),
        tried("cut", "503"),
        tried("timeout_first_byte", "503", "connect"),
        # The last answer is passed on, and before or after it one did not come.
        tried("timeout_first_byte", upstream_status=503, attempts=2),
        tried("503", "cut", upstream_status=503),
    ],
)
def test_an_upstream_that_may_have_done_the_work_is_paid(found: Record) -> None:
    assert reached(found)


def test_an_error_that_says_what_it_used_costs_that() -> None:
    told = record(upstream_status=500, usage=Usage(3, 4, 7))
    assert BOUNDS.spent(told, Tokens()) == Tokens(3, 4)


# -- periods -------------------------------------------------------------------------------------

BERLIN: Final = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("every", "moment", "name", "ends"),
    [
        ("day", "2026-11-22T23:59:59.999999+00:00", "2026-11-22", "2026-11-23T00:00:00+00:00"),
        ("day", "2026-12-31T00:00:00+00:00", "2026-12-31", "2027-01-01T00:00:00+00:00"),
        ("month", "2026-12-31T23:59:59+00:00", "2026-12", "2027-01-01T00:00:00+00:00"),
        ("month", "2028-02-29T12:00:00+00:00", "2028-02", "2028-03-01T00:00:00+00:00"),
        ("month", "2026-01-31T12:00:00+00:00", "2026-01", "2026-02-01T00:00:00+00:00"),
    ],
)
def test_a_period_ends_when_the_next_one_begins(
    every: Any, moment: str, name: str, ends: str
) -> None:
    found = period(every, datetime.fromisoformat(moment))
    assert (found.name, found.ends and found.ends.isoformat()) == (name, ends)


def test_a_day_has_the_length_it_has_where_the_budget_is() -> None:
    night = datetime(2026, 10, 24, 22, 30, tzinfo=UTC).astimezone(BERLIN)
    found = period("day", night)
    assert (found.name, found.ends and found.ends.isoformat()) == (
        "2026-10-25", "2026-10-26T00:00:00+01:00",
    )  # fmt: skip
    assert period("lifetime", night).ends is None


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["day", "month"]))
def test_whatever_the_moment_it_lies_in_its_period(instant: datetime, every: Any) -> None:
    moment = instant.astimezone(BERLIN)
    found = period(every, moment)
    assert found.ends
    assert found.ends > moment
    assert period(every, found.ends).name > found.name
    assert (found.ends.hour, found.ends.minute) == (0, 0)


# -- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": [{"name": "a"}]}, "write either money = 500.0 or tokens = 1000000"),
        ({"budgets": [{**TOKENS, "money": 1}]}, "one of the two"),
        ({"budgets": [TOKENS, TOKENS]}, "the name 'daily' is taken"),
        ({"budgets": [{**TOKENS, "name": " "}]}, "a budget needs a name"),
        ({"budgets": [{**TOKENS, "match": []}]}, "match holds nothing to fit"),
        ({"budgets": [{**TOKENS, "per": "all", "match": ["x"]}]}, "remove match"),
        ({"budgets": [{**TOKENS, "per": "teams"}]}, "team"),
        ({"budgets": [{**TOKENS, "tokens": -1}]}, "write an amount"),
        ({"budgets": [{**MONEY, "money": -1}]}, "write an amount of zero or more"),
        ({"budgets": [{**MONEY, "currency": "EUR"}]}, "no model has a price in it"),
        ({"budgets": [{**TOKENS, "timezone": "Europe/Berln"}]}, "Did you mean 'Europe/Berlin'?"),
        ({"budgets": [{**TOKENS, "timezone": "../etc"}]}, "no such time zone"),
        ({"budgets": [{**TOKENS, "every": "week"}]}, "month"),
        ({"bytes_per_token": 0}, "bytes_per_token = 0"),
        ({"most_output": -1}, "most_output = -1"),
        ({"store": "x"}, "unknown key 'store'"),
        ({"unpriced": "deny"}, "refuse"),
    ],
)
def test_a_budget_that_cannot_be_meant_stops_the_start(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    sections = settings(tmp_path)
    sections["plugins"] = [
        {"use": "static_keys", "options": {"keys": [{"name": "a", "sha256": "0" * 64}]}},
        {"use": "budget", "options": options},
    ]
    with pytest.raises(ConfigError) as caught:
        create_app(parse(sections))
    assert message in str(caught.value)


def test_a_budget_without_a_store_says_what_to_add(tmp_path: Path) -> None:
    sections = settings(tmp_path, TOKENS)
    del sections["store"]
    with pytest.raises(ConfigError, match=r"add \[store\]"):
        create_app(parse(sections))


def test_two_entries_of_the_plugin_are_one_too_many(tmp_path: Path) -> None:
    sections = settings(tmp_path, TOKENS)
    more = {**budget({**TOKENS, "name": "other"}), "name": "again"}
    sections["plugins"] = [*sections["plugins"], more]
    twice = pytest.raises(ConfigError, match="put all budgets into the options of one entry")
    with twice, gateway(**sections):
        pass


def test_a_caller_without_owner_and_team_is_its_own() -> None:
    assert Who.of("ci", (), {}) == Who("ci", "ci", "", ())
    full = Who.of("ci", ("a", "b"), {"key": "key_1", "owner": "ada", "team": "b"})
    assert full == Who("key_1", "ada", "b", ("b", "a"))
    assert KEY not in json.dumps([full.key, full.owner])
