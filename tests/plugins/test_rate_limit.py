"""Limits as callers and operators meet them, through the real application."""

import math
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plugins.rate_limit.estimate import output_tokens, prompt_tokens, used_tokens
from plugins.rate_limit.replies import duration
from plugins.rate_limit.rules import subjects
from proxy import Call, ConfigError, Principal, Record, Secret, Usage
from proxy.frozen import freeze
from proxy.testing import harness
from tests.gateway import (
    COMPLETION,
    KEY,
    REPLY,
    STREAMED,
    Answer,
    bearer,
    chunk,
    gateway,
    read_answer,
    refused,
)
from tests.upstream import WAIT, hang_up, json_reply, sse


def limits(path: Path, *rules: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "use": "rate_limit",
        "options": {"rules": list(rules), "path": str(path / "limits.db"), **options},
    }


def over(answer: Answer, kind: str) -> str:
    """The message of a refusal for being over a limit, in OpenAI's form."""
    assert answer.status == 429, answer.body
    error = answer.error
    assert (error["type"], error["code"], error["param"]) == (kind, "rate_limit_exceeded", None)
    return str(error["message"])


# -- requests --------------------------------------------------------------------------------------


def test_the_call_over_the_limit_is_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "key", "requests": "3/minute"})]) as gate:
        passed = [gate.ask(COMPLETION) for _ in range(3)]
        assert [answer.status for answer in passed] == [200] * 3
        assert [a.header("x-ratelimit-remaining-requests") for a in passed] == ["2", "1", "0"]
        assert {a.header("x-ratelimit-limit-requests") for a in passed} == {"3"}
        assert re.fullmatch(r"1m[01]s", passed[0].header("x-ratelimit-reset-requests") or "")
        answer = gate.ask(COMPLETION)
        assert "3 requests per minute for key 'alice'" in over(answer, "requests")
        assert answer.header("x-ratelimit-remaining-requests") == "0"
        assert answer.header("x-should-retry") is None
        seconds = int(answer.header("retry-after") or "")
        milliseconds = int(answer.header("retry-after-ms") or "")
        assert 50 <= seconds <= 61
        assert math.ceil(milliseconds / 1000) == seconds
        assert len(gate.upstream.requests) == 3
        assert (gate.record(4).code, gate.record(4).denied_by) == (
            "rate_limit_exceeded",
            "rate_limit",
        )


def test_a_place_comes_back_when_the_answer_says_so(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "key", "requests": "2/second"})]) as gate:
        answers = [gate.ask(COMPLETION) for _ in range(8)]
        last = next(answer for answer in answers if answer.status == 429)
        time.sleep(int(last.header("retry-after-ms") or "") / 1000)
        assert gate.ask(COMPLETION).status == 200


def test_a_refused_call_takes_nothing_of_the_other_limits(tmp_path: Path) -> None:
    rules = ({"per": "all", "requests": "9/minute"}, {"per": "model", "requests": "1/minute"})
    with gateway(plugins=[limits(tmp_path, *rules)]) as gate:
        for _ in range(4):
            gate.ask(COMPLETION)
        answer = gate.ask({**COMPLETION, "model": "other"})
        assert answer.status == 200
        # Two calls went out, so seven of nine would be left; the tightest limit is what is shown.
        assert answer.header("x-ratelimit-remaining-requests") == "0"
        assert answer.header("x-ratelimit-limit-requests") == "1"
        remaining = [gate.ask({**COMPLETION, "model": f"m{number}"}).status for number in range(8)]
        assert remaining == [200] * 7 + [429]


def test_of_several_rates_in_one_rule_each_counts(tmp_path: Path) -> None:
    rule = {"per": "key", "requests": "2/second; 3/minute"}
    with gateway(plugins=[limits(tmp_path, rule)]) as gate:
        answers = [gate.ask(COMPLETION)]
        while len(answers) < 40 and "minute" not in str(answers[-1].body):
            answers.append(gate.ask(COMPLETION))
            time.sleep(0.1)
        assert [answer.status for answer in answers].count(200) == 3
        assert "3 requests per minute" in over(answers[-1], "requests")


def test_lists_of_models_count_as_requests(tmp_path: Path) -> None:
    with gateway(
        json_reply({"object": "list", "data": []}),
        plugins=[limits(tmp_path, {"per": "key", "requests": "1/minute", "tokens": "10/minute"})],
    ) as gate:
        answer = gate.ask(path="/v1/models", method="GET")
        assert answer.status == 200
        assert answer.header("x-ratelimit-limit-tokens") is None
        over(gate.ask(path="/v1/models", method="GET"), "requests")


def test_what_the_upstream_says_of_its_own_limits_is_replaced(tmp_path: Path) -> None:
    names = ["x-ratelimit-remaining-requests", "x-ratelimit-remaining-images"]
    with gateway(
        json_reply(REPLY, headers=[(name, "999") for name in names]),
        plugins=[limits(tmp_path, {"per": "key", "requests": "5/minute"})],
        upstream={"reply_headers": names},
    ) as gate:
        answer = gate.ask(COMPLETION)
        shown = [value for name, value in answer.headers if name.lower() == names[0]]
        assert shown == ["4"]
        assert answer.header("x-ratelimit-remaining-images") == "999"


# -- whom a limit is for ---------------------------------------------------------------------------


def test_each_key_has_its_own_count(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.db")
    limited = harness("rate_limit", rules=[{"per": "key", "requests": "1/hour"}], path=path)
    one, two = limited.given(caller="one"), limited.given(caller="two")
    assert one.completions().denied is None
    assert two.completions().denied is None
    assert one.completions().denied is not None


@pytest.mark.parametrize(
    ("per", "principal", "expected"),
    [
        ("key", Principal("p", ("g",), freeze({"key": "key_1"})), ("key_1",)),
        ("key", Principal("p", ("g",)), ("p",)),
        ("owner", Principal("p", (), freeze({"owner": "o@example.org"})), ("o@example.org",)),
        ("owner", Principal("p"), ("p",)),
        ("team", Principal("p", ("a", "b"), freeze({"team": "a"})), ("a", "b")),
        ("team", Principal("p", ("a",), freeze({"team": "t"})), ("t", "a")),
        ("team", Principal("p"), ()),
        ("model", Principal("p"), ("m",)),
        ("all", Principal("p"), ("",)),
    ],
)
def test_whom_a_call_counts_for(per: str, principal: Principal, expected: tuple[str, ...]) -> None:
    assert subjects(per, _call({"model": "m", "prompt": "x"}, principal=principal)) == expected


def test_a_team_and_the_team_above_it_are_both_charged(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.db")
    rules = [{"per": "team", "match": ["company"], "requests": "2/hour"}]
    rules += [{"per": "team", "match": ["red", "blue"], "requests": "9/hour"}]
    limited = harness("rate_limit", rules=rules, path=path)
    red = limited.given(caller="r", groups=("red", "company"))
    blue = limited.given(caller="b", groups=("blue", "company"))
    assert red.completions().denied is None
    assert blue.completions().denied is None
    denied = blue.completions().denied
    assert denied is not None
    assert "team 'company'" in denied.message


def test_match_and_models_say_what_is_counted_at_all(tmp_path: Path) -> None:
    rules = [{"per": "key", "match": ["ci-*"], "models": ["gpt-4*"], "requests": "1/hour"}]
    limited = harness("rate_limit", rules=rules, path=str(tmp_path / "limits.db"))
    bot, human = limited.given(caller="ci-1"), limited.given(caller="human")
    assert [bot.completions(model="gpt-4o").denied is None for _ in range(2)] == [True, False]
    assert all(human.completions(model="gpt-4o").denied is None for _ in range(3))
    assert all(bot.completions(model="small").denied is None for _ in range(3))


def test_subjects_that_look_like_parts_of_keys_stay_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.db")
    limited = harness("rate_limit", rules=[{"per": "model", "requests": "1/hour"}], path=path)
    for model in ("a/b", "a", "a/b/c", "a\u0000b", "\U0001f600", "x" * 200, "x" * 199 + "y"):
        assert limited.completions(model=model).denied is None, model
        assert limited.completions(model=model).denied is not None, model


# -- tokens ----------------------------------------------------------------------------------------


def used(prompt: int, completion: int) -> dict[str, Any]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {**REPLY, "usage": usage}


def test_the_guess_is_charged_at_first_and_corrected_by_what_was_used(tmp_path: Path) -> None:
    with gateway(
        json_reply(used(30, 10)), plugins=[limits(tmp_path, {"per": "key", "tokens": "1000/hour"})]
    ) as gate:
        answer = gate.ask({**COMPLETION, "max_tokens": 500})
        assert answer.header("x-ratelimit-limit-tokens") == "1000"
        assert answer.header("x-ratelimit-remaining-tokens") == str(1000 - 500 - 2)
        gate.record()
        answer = gate.ask({**COMPLETION, "max_tokens": 1})
        assert answer.header("x-ratelimit-remaining-tokens") == str(1000 - 40 - 1 - 2)


def test_what_was_used_beyond_the_guess_counts_too(tmp_path: Path) -> None:
    with gateway(
        json_reply(used(900, 200)),
        plugins=[limits(tmp_path, {"per": "key", "tokens": "1000/hour"})],
    ) as gate:
        assert gate.ask({**COMPLETION, "max_tokens": 1}).status == 200
        gate.record()
        answer = gate.ask({**COMPLETION, "max_tokens": 1})
        assert "1000 tokens per hour for key 'alice'" in over(answer, "tokens")
        assert answer.header("x-ratelimit-remaining-tokens") == "0"


def test_a_call_that_never_reached_the_upstream_costs_no_tokens(tmp_path: Path) -> None:
    with gateway(
        hang_up(), plugins=[limits(tmp_path, {"per": "key", "tokens": "1000/hour"})]
    ) as gate:
        assert gate.ask({**COMPLETION, "max_tokens": 900}).status == 502
        gate.record()
        answer = gate.ask({**COMPLETION, "max_tokens": 900})
        assert answer.status == 502


def test_a_call_that_another_plugin_refuses_gives_its_tokens_back(tmp_path: Path) -> None:
    rule = {"per": "key", "tokens": "1000/hour"}
    other = {**limits(tmp_path, {"per": "all", "requests": "1/hour"}), "name": "other"}
    with gateway(plugins=[limits(tmp_path, rule), other]) as gate:
        assert gate.ask({**COMPLETION, "max_tokens": 10}).status == 200
        for count in range(2, 6):
            over(gate.ask({**COMPLETION, "max_tokens": 800}), "requests")
            gate.record(count)


def test_the_usage_of_a_stream_is_counted_and_not_shown_to_who_did_not_ask(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 100, "total_tokens": 105}
    last = {**chunk(""), "choices": [], "usage": usage}
    with gateway(
        sse([chunk("Hi"), chunk("", "stop"), last, "[DONE]"]),
        plugins=[limits(tmp_path, {"per": "key", "tokens": "1000/hour"})],
    ) as gate:
        answer = gate.ask({**STREAMED, "max_tokens": 10})
        assert b"usage" not in answer.body
        gate.record()
        answer = gate.ask({**STREAMED, "max_tokens": 1})
        assert answer.header("x-ratelimit-remaining-tokens") == str(1000 - 105 - 1 - 2)


def test_a_call_larger_than_the_limit_is_told_that_no_wait_will_help(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "key", "tokens": "100/minute"})]) as gate:
        answer = gate.ask({**COMPLETION, "max_tokens": 60, "n": 3})
        message = over(answer, "tokens")
        assert "Request too large: it may use 182 tokens" in message
        assert answer.header("retry-after") is None
        assert answer.header("x-should-retry") == "false"
        assert gate.ask({**COMPLETION, "max_tokens": 60}).status == 200


# -- calls at once ---------------------------------------------------------------------------------


def test_no_more_calls_at_once_than_allowed_and_an_ended_one_makes_room(tmp_path: Path) -> None:
    with gateway(
        sse([chunk("Hi"), WAIT, chunk("", "stop"), "[DONE]"]),
        plugins=[limits(tmp_path, {"per": "key", "concurrent": 2})],
    ) as gate:
        held = [gate.send(STREAMED) for _ in range(2)]
        gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 2)
        answer = gate.ask(STREAMED)
        assert "Too many calls at once: the limit is 2 calls at a time" in over(answer, "requests")
        assert answer.header("retry-after") == "1"
        gate.upstream.release()
        for sock in held:
            with sock:
                assert read_answer(sock).status == 200
        gate.record(3)
        assert gate.ask(STREAMED).status == 200


def test_a_caller_who_hangs_up_gives_the_place_back(tmp_path: Path) -> None:
    with gateway(
        sse([chunk("Hi"), WAIT]), plugins=[limits(tmp_path, {"per": "key", "concurrent": 1})]
    ) as gate:
        for count in range(1, 4):
            with gate.send(STREAMED) as sock:
                assert sock.recv(12) == b"HTTP/1.1 200"
            assert gate.record(count).outcome == "client_gone"


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["garbage", "a directory"])
def test_counters_that_cannot_be_used_refuse_calls_or_let_them_pass(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "limits.db"
    if damage == "garbage":
        file.write_bytes(b"this is no database" * 1000)
    else:
        file.mkdir()
    rule = {"per": "key", "requests": "1/minute"}
    with gateway(plugins=[limits(tmp_path, rule)]) as gate:
        answer = gate.ask(COMPLETION)
        assert answer.status == 503
        assert answer.error["code"] == "state_unavailable"
        assert answer.header("retry-after")
        assert gate.upstream.requests == []
    assert "remove it if it is damaged" in caplog.text
    with gateway(plugins=[limits(tmp_path, rule, on_outage="allow")]) as gate:
        assert [gate.ask(COMPLETION).status for _ in range(3)] == [200] * 3
    assert "calls pass without limits" in caplog.text


def test_a_sqlite_file_of_an_earlier_version_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    with closing(sqlite3.connect(path)) as earlier:
        earlier.execute("CREATE TABLE windows (key BLOB)")
    with pytest.raises(ConfigError, match="remove it with its -wal and -shm"):
        harness("rate_limit", rules=[{"per": "all", "requests": "9/hour"}], path=str(path))


def test_a_file_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "key", "requests": "1/hour"})]) as gate:
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [200, 429]
        for file in tmp_path.glob("limits.db*"):
            file.unlink()
        deadline = time.monotonic() + 30
        while gate.ask(COMPLETION).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (tmp_path / "limits.db").exists()


def test_the_file_can_be_read_by_its_user_only(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "key", "requests": "1/hour"})]) as gate:
        gate.ask(COMPLETION)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("limits.db*")}
        assert set(modes.values()) == {0o600}, modes


def test_a_monitored_limit_refuses_nobody_and_is_seen_in_the_record(tmp_path: Path) -> None:
    entry = {**limits(tmp_path, {"per": "key", "requests": "1/hour"}), "mode": "monitor"}
    with gateway(plugins=[entry]) as gate:
        assert [gate.ask(COMPLETION).status for _ in range(3)] == [200] * 3
        verdicts = [v.verdict for v in gate.record(3).verdicts if v.hook == "admit"]
        assert verdicts == ["monitor:deny"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": []}, "rules is empty"),
        ({}, "'rules' is missing"),
        ({"rules": [{"per": "key"}]}, "limits nothing: add requests"),
        ({"rules": [{"requests": "1/minute"}]}, "per"),
        ({"rules": [{"per": "user", "requests": "1/minute"}]}, "per"),
        ({"rules": [{"per": "key", "requests": "60 a minute"}]}, "is no rate: write e.g."),
        ({"rules": [{"per": "key", "requests": "60/fortnight"}]}, "is no rate"),
        ({"rules": [{"per": "key", "requests": ""}]}, "is no rate"),
        ({"rules": [{"per": "key", "requests": "-1/minute"}]}, "is no rate"),
        ({"rules": [{"per": "key", "tokens": "0/minute"}]}, "would let nothing pass"),
        ({"rules": [{"per": "key", "requests": 60}]}, "Expected str"),
        ({"rules": [{"per": "key", "concurrent": 0}]}, "at least 1 call"),
        ({"rules": [{"per": "key", "request": "1/minute"}]}, "Did you mean 'requests'"),
        ({"rules": [{"per": "key", "requests": r} for r in ("1/minute", "2/minute")]}, "keep one"),
        ({"rules": [{"per": "key", "concurrent": 1}], "output_tokens": 0}, "output_tokens"),
        ({"rules": [{"per": "key", "concurrent": 1}], "lease": 0.1}, "lease"),
        ({"rules": [{"per": "key", "concurrent": 1}], "on_outage": "ignore"}, "'refuse', 'allow'"),
        ({"rules": [{"per": "key", "concurrent": 1}], "path": "/nowhere/limits.db"}, "make it"),
        (
            {"rules": [{"per": "key", "concurrent": 1}], "path": "/tmp/x", "redis": Secret("x")},
            "remove one of the two",
        ),
        ({"rules": [{"per": "key", "concurrent": 1}], "redis": Secret("http://h")}, "redis://"),
        ({"rules": [{"per": "key", "concurrent": 1}], "redis": "redis://h"}, "never stands"),
    ],
)
def test_a_limit_that_cannot_be_meant_stops_the_start(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        harness("rate_limit", **options)


def test_without_a_path_the_counters_are_in_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert harness("rate_limit", rules=[{"per": "all", "requests": "9/hour"}]).chat().denied is None
    assert (tmp_path / "outgate-limits.lmdb").is_file()


def test_without_a_runtime_directory_they_are_in_one_of_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert harness("rate_limit", rules=[{"per": "all", "requests": "9/hour"}]).chat().denied is None
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "outgate-limits.lmdb").is_file()


# -- estimates and forms ---------------------------------------------------------------------------


def _call(body: dict[str, Any], endpoint: Any = "completions", **fields: Any) -> Call:
    fields.setdefault("principal", Principal("p"))
    return Call(
        id="c", endpoint=endpoint, body=freeze(body), model=body.get("model"),
        deadline=time.monotonic() + 60, **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "body", "prompt", "output"),
    [
        ("completions", {"prompt": "x" * 400}, 100, 16),
        ("completions", {"prompt": "x" * 401, "max_tokens": 7}, 101, 7),
        ("completions", {"prompt": ["x" * 40, "y" * 40], "n": 3}, 20, 48),
        ("completions", {"prompt": list(range(50)), "best_of": 4, "n": 2}, 50, 64),
        ("completions", {"prompt": [[1, 2, 3], [4, 5]]}, 5, 16),
        ("chat", {"messages": [{"role": "user", "content": "x" * 396}]}, 100, 500),
        ("chat", {"messages": [], "max_tokens": 5, "max_completion_tokens": 9}, 0, 9),
        ("embeddings", {"input": ["x" * 40] * 3, "max_tokens": 99}, 30, 0),
        ("models", {}, 0, 0),
    ],
)
def test_what_a_call_may_use_is_guessed_from_its_size(
    endpoint: str, body: dict[str, Any], prompt: int, output: int
) -> None:
    call = _call(body, endpoint)
    assert (prompt_tokens(call), output_tokens(call, 500)) == (prompt, output)


def test_an_image_is_not_taken_for_the_length_of_its_data() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400000}}
    call = _call({"messages": [{"role": "user", "content": [image]}]}, "chat")
    assert 1000 <= prompt_tokens(call) < 1010


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"usage": Usage(10, 5, 15), "upstream_status": 200}, 15),
        ({"usage": Usage(10, 5), "upstream_status": 200}, 15),
        ({"completion_characters": 41, "upstream_status": 200}, 111),
        ({"upstream_status": 500}, 0),
        ({}, 0),
    ],
)
def test_what_a_call_used_is_what_the_upstream_says_or_what_it_wrote(
    fields: dict[str, Any], expected: int
) -> None:
    record = Record(
        id="c", time="", endpoint="chat", outcome="ok", status=200, seconds=0.1, **fields
    )
    assert used_tokens(record, 100) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"), (0.0121, "13ms"), (0.9995, "1000ms"), (1, "1s"), (59.2, "1m0s"), (60, "1m0s"),
        (360, "6m0s"), (3600, "1h0m0s"), (86399.5, "24h0m0s"), (45.01, "46s"),
    ],
)  # fmt: skip
def test_times_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_refusal_of_a_key_names_no_other_key(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "all", "requests": "1/hour"})]) as gate:
        gate.ask(COMPLETION)
        message = over(gate.ask(COMPLETION), "requests")
        assert "all callers" in message
        assert "alice" not in message


def test_who_is_not_known_takes_nothing(tmp_path: Path) -> None:
    with gateway(plugins=[limits(tmp_path, {"per": "all", "requests": "1/hour"})]) as gate:
        for _ in range(3):
            refused(gate.ask(COMPLETION, bearer("wrong-key-0123456789")), 401)
        assert gate.ask(COMPLETION, bearer(KEY)).status == 200
