"""Answers from the cache as callers and operators meet them, through the real application."""

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from plugins.response_cache import ResponseCache
from plugins.response_cache.asked import Wishes, is_repeatable, is_whole, subject
from plugins.response_cache.files import FileStorage
from plugins.response_cache.sealing import Damaged, Entry, Seal
from proxy import Call, ConfigError, Deployment, Principal, Reply, Secret
from proxy.frozen import freeze
from proxy.testing import Harness, harness
from tests.gateway import REPLY, Answer, Gateway, bearer, chunk, gateway, refused
from tests.records import eventually
from tests.store.servers import Redis
from tests.upstream import Script, json_reply, sse

SECRET: Final = "a secret of thirty-two characters"
ASKED: Final = {"model": "m", "prompt": "Hello", "temperature": 0}
STREAM: Final = {**ASKED, "stream": True}
USAGE: Final = {**chunk(""), "choices": [], "usage": REPLY["usage"]}
EVENTS: Final[list[Any]] = [chunk(" wor"), chunk("ld", "stop"), USAGE, "[DONE]"]
BOB: Final = "caller-key-of-bob-0123"
GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"codename": "BLUEBIRD"}}}
CONVERSATION: Final = {"header": "x-conversation", "key": {"env": "CACHE_SECRET"}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_SECRET", SECRET)
    monkeypatch.setenv("BOBS_KEY", BOB)


def cache(path: Path, **options: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {key: options.pop(key) for key in ("when", "mode") if key in options}
    where: dict[str, Any] = {} if "redis" in options else {"path": str(path / "cache.db")}
    given = {"secret": {"env": "CACHE_SECRET"}, **where, **options}
    return {"use": "response_cache", "options": given, **entry}


def numbered(count: int = 20) -> list[Script]:
    """Replies that can be told apart."""
    return [json_reply({**REPLY, "id": f"cmpl-{number}"}) for number in range(count)]


def entries(path: Path) -> int:
    file = path / "cache.db"
    if not file.exists():
        return 0
    connection = sqlite3.connect(file)
    try:
        return int(connection.execute("SELECT entries FROM sums").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def kept(gate: Gateway, folder: Path, body: Any = ASKED, path: str = "/v1/completions") -> Answer:
    """Ask, and wait until the answer is kept."""
    answer = gate.ask(body, path=path)
    assert answer.status == 200, answer.body
    assert answer.header("x-outgate-cache") is None
    eventually(lambda: entries(folder) == 1)
    return answer


def is_hit(answer: Answer) -> bool:
    assert answer.status == 200, answer.body
    return answer.header("x-outgate-cache") == "hit"


# -- hits ------------------------------------------------------------------------------------------


def test_the_same_call_has_the_same_answer_and_nothing_leaves(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        first = kept(gate, tmp_path)
        again = gate.ask(ASKED)
        record = gate.record(2)
        assert len(gate.upstream.requests) == 1
    assert is_hit(again)
    assert again.json() == first.json()
    assert 0 <= int(again.header("age") or "") < 60
    assert (record.answered_by, record.upstream, record.outcome) == ("response_cache", None, "ok")
    assert record.usage is not None
    assert record.usage.total_tokens == 2


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "hello"}, {"model": "n"}, {"temperature": 0.0}, {"max_tokens": 1}, {"user": "u"},
        {"seed": 1}, {"unknown": None},
    ],
    ids=str,
)  # fmt: skip
def test_another_call_is_another_call(tmp_path: Path, change: dict[str, Any]) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path)
        assert not is_hit(gate.ask({**ASKED, **change}))


def test_the_order_of_members_and_the_form_of_the_answer_do_not_matter(tmp_path: Path) -> None:
    with gateway(sse(EVENTS), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path, STREAM)
        whole = gate.ask(dict(reversed(ASKED.items())))
    assert is_hit(whole)
    body = whole.json()
    assert (body["object"], body["usage"]) == ("text_completion", REPLY["usage"])
    assert body["choices"][0]["text"] == " world"


@pytest.mark.parametrize("asked", [False, True])
def test_a_streamed_hit_is_a_stream_with_its_usage_where_it_was_asked_for(
    tmp_path: Path, asked: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path)
        hit = gate.ask({**STREAM, **options})
        record = gate.record(2)
    assert is_hit(hit)
    assert hit.header("content-type") == "text/event-stream"
    events = [line.removeprefix("data: ") for line in hit.body.decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    told = [json.loads(event) for event in events]
    assert [bool(event.get("usage")) for event in told] == [
        False,
        False,
        *([True] if asked else []),
    ]
    assert "".join(c["text"] for event in told for c in event["choices"]) == " world"
    assert told[1]["choices"][0]["finish_reason"] == "stop"
    assert record.usage is not None


def test_what_came_without_usage_is_not_for_those_who_want_it(tmp_path: Path) -> None:
    scripts = [sse([chunk("a", "stop"), "[DONE]"]), *numbered()]
    with gateway(*scripts, plugins=[cache(tmp_path)], metering={"ask_usage": False}) as gate:
        kept(gate, tmp_path, STREAM)
        assert is_hit(gate.ask(STREAM))
        assert not is_hit(gate.ask({**STREAM, "stream_options": {"include_usage": True}}))
        eventually(lambda: is_hit(gate.ask(ASKED)))


def test_chats_and_embeddings_are_kept_and_lists_of_models_are_not(tmp_path: Path) -> None:
    vector = {"object": "list", "data": [{"embedding": [0.1, -2e-07], "index": 0}], "model": "m"}
    with gateway(json_reply(vector), plugins=[cache(tmp_path)]) as gate:
        body = {"model": "m", "input": "a"}
        kept(gate, tmp_path, body, path="/v1/embeddings")
        hit = gate.ask(body, path="/v1/embeddings")
        assert is_hit(hit)
        assert hit.json() == vector
        for _ in range(2):
            assert not is_hit(gate.ask(path="/v1/models", method="GET"))


def test_a_sampled_call_is_not_kept_unless_the_operator_says_so(tmp_path: Path) -> None:
    sampled = {"model": "m", "prompt": "Hello", "seed": 7}
    for option in (False, True):
        with gateway(*numbered(), plugins=[cache(tmp_path, sampled=option)]) as gate:
            gate.ask(sampled)
            if option:
                eventually(lambda: entries(tmp_path) == 1)
            assert is_hit(gate.ask(sampled)) == option


# -- who shares, and what ends it --------------------------------------------------------------------


def callers(path: Path, **options: Any) -> list[dict[str, Any]]:
    bob = {"name": "bob", "key": {"env": "BOBS_KEY"}}
    return [
        {"use": "static_keys", "name": "more", "options": {"keys": [bob]}},
        cache(path, **options),
    ]


@pytest.mark.parametrize("per", ["principal", "team", "all"])
def test_callers_share_only_what_the_operator_lets_them_share(tmp_path: Path, per: str) -> None:
    with gateway(*numbered(), plugins=callers(tmp_path, per=per)) as gate:
        first = kept(gate, tmp_path)
        other = gate.ask(ASKED, bearer(BOB))
        # Neither has a team, so each is alone.
        assert is_hit(other) == (per == "all")
        assert (other.json() == first.json()) == (per == "all")


def person(name: str, team: str | None = None) -> Call:
    principal = Principal(name, metadata={"team": team} if team else {})
    body = freeze(ASKED)
    return Call(id="1", endpoint="completions", body=body, principal=principal, model="m")


def test_a_team_shares_and_no_name_of_a_caller_is_a_team() -> None:
    assert subject("team", person("a", "x")) == subject("team", person("b", "x"))
    assert subject("team", person("a", "x")) != subject("team", person("a", "y"))
    assert subject("team", person("x")) != subject("team", person("a", "x"))
    assert subject("principal", person("a", "x")) != subject("principal", person("b", "x"))
    assert subject("all", person("a")) == subject("all", person("b", "x"))


def test_another_configuration_begins_anew(tmp_path: Path) -> None:
    policy: dict[str, Any] = {}
    for hit in (False, True, False):
        with gateway(*numbered(), plugins=[cache(tmp_path), GUARD], policy=policy) as gate:
            # The ports of tests are part of their configurations, so one gateway is asked under two digests.
            made = gate.pipeline.parts.chain.answer_request[0].function
            deployment = vars(made.__self__)["deployment"]  # type: ignore[attr-defined]
            deployment.complete(json.dumps(policy), ())
            assert is_hit(gate.ask(ASKED)) == hit
            eventually(lambda: entries(tmp_path) >= 1)
        policy = {"response": {"codename": "redact"}} if hit else policy


def test_the_digest_of_configuration_and_plugins_is_part_of_the_key() -> None:
    found = [plugin("one"), plugin("one"), plugin("two")]
    places = [made._seal(person("a")).place for made in found]
    assert places[0] == places[1] != places[2]


def plugin(digest: str = "d", headers: tuple[str, ...] = (), **options: Any) -> ResponseCache:
    deployment = Deployment()
    deployment.complete(digest, headers)
    return ResponseCache(deployment, Secret(SECRET), **options)


def test_headers_that_upstreams_get_are_part_of_the_call(tmp_path: Path) -> None:
    pinned = {"pass_headers": ["X-Model-Version"]}
    with gateway(*numbered(), plugins=[cache(tmp_path)], upstream=pinned) as gate:
        kept(gate, tmp_path)
        assert is_hit(gate.ask(ASKED, [*bearer(), ("Idempotency-Key", "1"), ("X-Other", "1")]))
        for name in ("X-Model-Version", "OpenAI-Organization"):
            assert not is_hit(gate.ask(ASKED, [*bearer(), (name, "1")]))


def test_an_answer_ends(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path, ttl=1.0)]) as gate:
        first = kept(gate, tmp_path)
        time.sleep(1.05)
        second = gate.ask(ASKED)
    assert not is_hit(second)
    assert second.json() != first.json()


@pytest.mark.parametrize(
    ("at", "age"),
    [(1000.0, 0), (990.0, 10), (940.1, 59.9), (940.0, None), (1004.0, 0), (1006.0, None)],
)
def test_time_is_the_wall_clocks_and_what_comes_from_the_future_does_not_count(
    at: float, age: float | None
) -> None:
    found = Entry(at, streamed=False, body={}).age(1000.0, 60.0)
    assert found == (None if age is None else pytest.approx(age))


# -- what callers can say ----------------------------------------------------------------------------


def test_a_caller_can_ask_for_a_fresh_answer_and_leave_the_cache_out(tmp_path: Path) -> None:
    def ask(said: str) -> Answer:
        return gate.ask(ASKED, [*bearer(), ("Cache-Control", said)])

    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        assert not is_hit(ask("no-store"))
        first = kept(gate, tmp_path)
        assert not is_hit(ask("no-store"))
        assert gate.ask(ASKED).json() == first.json()
        fresh = ask("No-Cache")
        assert not is_hit(fresh)
        eventually(lambda: gate.ask(ASKED).json() == fresh.json())
        assert not is_hit(ask("max-age=0"))
        eventually(lambda: is_hit(ask("max-age=60, min-fresh=1")))


@pytest.mark.parametrize(
    ("said", "wishes"),
    [
        ("", (True, True, None)), ("no-cache", (True, False, None)), ("NO-STORE", (False, False, None)),
        ("max-age=5, max-age=3", (True, True, 3)), ('max-age="7"', (True, True, 7)),
        ("max-age=x, only-if-cached", (True, True, None)), ("max-age=" + "9" * 99, (True, True, None)),
    ],
)  # fmt: skip
def test_wishes_are_read_as_the_standard_writes_them(said: str, wishes: Any) -> None:
    found = Wishes({"cache-control": said})
    assert (found.keep, found.answer, found.max_age) == wishes


# -- what is never kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": None}, {"temperature": 0.1}, {"temperature": False}, {"n": 2}, {"best_of": 3},
        {"store": True}, {"web_search_options": {"a": 1}}, {"audio": {"voice": "a"}},
        {"tools": [{"type": "web_search"}]}, {"tools": ["web_search"]},
    ],
    ids=str,
)  # fmt: skip
def test_what_would_not_be_the_same_again(change: dict[str, Any]) -> None:
    call = person("a").with_body(**change)
    assert not is_repeatable(call, sampled=False)
    assert is_repeatable(call, sampled=True) == bool(
        {"temperature", "n", "best_of"} & change.keys()
    )


@pytest.mark.parametrize("change", [{"n": 1}, {"best_of": None}, {"store": False}, {"tools": []}])
def test_what_would_be_the_same_again(change: dict[str, Any]) -> None:
    assert is_repeatable(person("a").with_body(**change), sampled=False)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"choices": []}, {"choices": "a"}, {"choices": [None]}, {"choices": [{"finish_reason": None}]},
        {"choices": [{"finish_reason": "content_filter"}]},
        {"choices": [{"finish_reason": "stop"}, {"finish_reason": None}]},
        {"error": {"message": "no"}, "choices": [{"finish_reason": "stop"}]},
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_not_whole_is_not_kept(body: dict[str, Any]) -> None:
    assert not is_whole("chat", body)
    assert not is_whole("embeddings", body)


@pytest.mark.parametrize("conversation", [False, True])
def test_no_placeholder_ever_comes_back_to_another_call(tmp_path: Path, conversation: bool) -> None:
    policy: dict[str, Any] = {"request": {"codename": "mask"}}
    policy |= {"conversation": CONVERSATION} if conversation else {}
    masked = {**ASKED, "prompt": "see BLUEBIRD"}
    headers = [*bearer(), ("X-Conversation", "c")]

    def echo(connection: Any, request: Any) -> None:
        said = {**REPLY["choices"][0], "text": request.json()["prompt"]}  # type: ignore[index]
        json_reply({**REPLY, "choices": [said]})(connection, request)

    with gateway(echo, plugins=[cache(tmp_path), GUARD], policy=policy) as gate:
        for _ in range(3):
            answer = gate.ask(masked, headers)
            assert not is_hit(answer)
            assert answer.json()["choices"][0]["text"] == "see BLUEBIRD"
        stolen = gate.upstream.requests[0].json()["prompt"]
        assert "<CODENAME_" in stolen
        # Whoever says the placeholder itself gets what an upstream says of it, and no value.
        first = kept(gate, tmp_path, {**ASKED, "prompt": stolen})
        again = gate.ask({**ASKED, "prompt": stolen})
        assert is_hit(again)
        assert first.json() == again.json()
        assert b"BLUEBIRD" not in again.body
        assert entries(tmp_path) == 1


def test_what_policy_finds_in_a_reply_is_found_in_the_hit_too(tmp_path: Path) -> None:
    said = {**REPLY["choices"][0], "text": "a BLUEBIRD"}  # type: ignore[index]
    policy = {"request": {"*": "allow"}, "response": {"codename": "redact"}}
    script = json_reply({**REPLY, "choices": [said]})
    with gateway(script, plugins=[cache(tmp_path), GUARD], policy=policy) as gate:
        first = kept(gate, tmp_path)
        for body in (ASKED, STREAM):
            hit = gate.ask(body)
            assert is_hit(hit)
            assert b"BLUEBIRD" not in hit.body
            assert b"a [CODENAME]" in hit.body
        assert first.json()["choices"][0]["text"] == "a [CODENAME]"
        record = gate.record(3)
    assert [(f.kind, f.action) for f in record.findings] == [("codename", "redact")]


def test_who_may_not_have_a_model_gets_no_answer_of_it(tmp_path: Path) -> None:
    rules = {"use": "models", "options": {"principals": {"alice": ["m"]}}}
    with gateway(*numbered(), plugins=[*callers(tmp_path, per="all"), rules]) as gate:
        kept(gate, tmp_path)
        assert gate.ask(ASKED, bearer(BOB)).status == 403


# -- what it costs -----------------------------------------------------------------------------------


def test_a_hit_is_paid_by_nobody(tmp_path: Path) -> None:
    budget = {"name": "daily", "per": "key", "tokens": 10_000, "every": "lifetime"}
    sections: dict[str, Any] = {
        "store": {"url": f"sqlite:///{tmp_path / 'outgate.db'}"},
        "prices": [{"models": ["m"], "input": 1.0, "output": 1.0}],
    }
    plugins = [{"use": "budget", "options": {"budgets": [budget]}}, cache(tmp_path)]
    with gateway(*numbered(), plugins=plugins, **sections) as gate:
        kept(gate, tmp_path)
        paid = gate.record(1)
        for _ in range(3):
            assert is_hit(gate.ask(ASKED))
        assert gate.record(4).cost_nano == 0
        assert (paid.cost_nano or 0) > 0
        store = gate.pipeline.parts.store
        assert store is not None

        def balance() -> Any:
            return store.ledger.balance("daily", "alice", "lifetime", "tokens")

        eventually(lambda: balance().reserved == 0)
        assert balance().settled == 2
        eventually(lambda: store.usage.report(["key"])[0]["calls"] == 4)
        (row,) = store.usage.report(["key"])
        assert (row["prompt_tokens"], row["completion_tokens"], row["failed"]) == (1, 1, 0)


def test_metrics_tell_hits_from_what_upstreams_counted(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path), {"use": "metrics"}]) as gate:
        kept(gate, tmp_path)
        assert is_hit(gate.ask(ASKED))
        gate.record(2)
        page = gate.ask(path="/metrics", method="GET").body.decode()
    assert 'outgate_tokens_total{kind="prompt",model="m"} 1.0' in page
    assert 'outgate_spared_tokens_total{kind="prompt",model="m"} 1.0' in page
    verdict = 'hook="answer_request",plugin="response_cache",verdict="answered"'
    assert f"outgate_hook_verdicts_total{{{verdict}}} 1.0" in page


def test_in_monitor_mode_would_be_hits_are_noted(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path, mode="monitor")]) as gate:
        kept(gate, tmp_path)
        assert not is_hit(gate.ask(ASKED))
        verdicts = [v.verdict for v in gate.record(2).verdicts if v.hook == "answer_request"]
    assert verdicts == ["monitor:answered"]


# -- at rest -----------------------------------------------------------------------------------------


def test_nothing_readable_is_at_rest_and_only_the_same_call_opens_it(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path, {**ASKED, "prompt": "a very private question"})
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("cache.db*"))
    for word in (b"private", b"world", b"alice", b"cmpl", b"text_completion"):
        assert word not in stored
    assert (tmp_path / "cache.db").stat().st_mode & 0o077 == 0


def test_neither_the_secret_nor_the_call_alone_opens_an_entry() -> None:
    entry = Entry(1.0, streamed=False, body={"a": 2**63})
    seal = Seal(b"secret", b"message")
    sealed = seal.close(entry)
    assert Seal(b"secret", b"message").open(sealed) == entry
    assert seal.close(entry) != sealed
    for other in (Seal(b"other", b"message"), Seal(b"secret", b"other")):
        assert other.place != seal.place
        with pytest.raises(Damaged):
            other.open(sealed)
    for broken in (sealed[:-1], sealed[:5], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(Damaged):
            seal.open(broken)


def test_an_entry_that_was_tampered_with_is_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path)
        with sqlite3.connect(tmp_path / "cache.db") as connection:
            connection.execute("UPDATE entries SET sealed = zeroblob(200)")
        connection.close()
        assert not is_hit(gate.ask(ASKED))
        assert "an entry is damaged" in caplog.text
        eventually(lambda: is_hit(gate.ask(ASKED)))


# -- the file ----------------------------------------------------------------------------------------


def test_what_ends_first_makes_room(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "cache.db", 3, 1000)
    for number in range(5):
        storage.put(bytes([number]), b"x" * 10, 100.0 + number, 50.0)
    left = [number for number in range(5) if storage.get(bytes([number]), 104.0) is not None]
    assert left == [2, 3, 4]
    storage.put(b"large", b"x" * 985, 105.0, 50.0)
    assert storage.get(b"large", 105.0) is not None
    assert entries(tmp_path) == 2
    storage.put(b"late", b"x", 200.0, 50.0)
    assert entries(tmp_path) == 1, "what has ended is thrown out"
    storage.put(b"late", b"yy", 200.0, 50.0)
    assert (entries(tmp_path), storage.get(b"late", 200.0)) == (1, b"yy")
    assert storage.get(b"late", 250.0) is None


def test_an_answer_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path, most_bytes=64)]) as gate:
        for count in (1, 2):
            assert not is_hit(gate.ask(ASKED))
            gate.record(count)
    assert entries(tmp_path) == 0


def test_a_damaged_file_costs_hits_and_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "cache.db"
    file.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        for _ in range(3):
            assert not is_hit(gate.ask(ASKED))
        assert caplog.text.count("cannot be used: file is not a database") == 1
        assert "remove it if it is damaged" in caplog.text
        assert "ERROR" in caplog.text
        file.unlink()
        eventually(lambda: is_hit(gate.ask(ASKED)))
        assert "can be used again" in caplog.text


def test_a_full_disk_costs_hits_and_no_call(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from tests.plugins.test_response_cache import ASKED, cache, eventually, gateway, is_hit, numbered

def most(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

with gateway(*numbered(50), plugins=[cache(Path(sys.argv[1]))]) as gate:
    most(1)
    answers = [gate.ask(ASKED) for _ in range(3)]
    gate.record(3)
    most(resource.RLIM_INFINITY)
    print([answer.status for answer in answers], any(map(is_hit, answers)))
    eventually(lambda: is_hit(gate.ask(ASKED)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[200, 200, 200] False\n"


def test_a_file_that_is_removed_or_replaced_is_followed(tmp_path: Path) -> None:
    with gateway(*numbered(50), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path)
        for path in tmp_path.glob("cache.db*"):
            path.unlink()
        eventually(lambda: not is_hit(gate.ask(ASKED)))
        eventually(lambda: is_hit(gate.ask(ASKED)))
        assert entries(tmp_path) == 1


def test_a_database_of_another_program_is_never_written_into(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(tmp_path / "cache.db") as connection:
        connection.execute("CREATE TABLE precious (a)")
    connection.close()
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        assert not is_hit(gate.ask(ASKED))
        gate.record()
        assert "is a database of something else" in caplog.text
    with sqlite3.connect(tmp_path / "cache.db") as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("precious",)]


def test_a_file_that_another_process_holds_costs_hits_and_no_call(tmp_path: Path) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path)]) as gate:
        kept(gate, tmp_path)
        holder = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        try:
            assert is_hit(gate.ask(ASKED)), "whoever reads does not wait for whoever writes"
            assert not is_hit(gate.ask({**ASKED, "user": "u"}))
            gate.record(3)
            assert is_hit(gate.ask(ASKED)), "and goes on reading when an answer could not be kept"
        finally:
            holder.close()


_WORKER: Final = """
import sys, threading, time
from pathlib import Path
from plugins.response_cache import ResponseCache
from proxy import Call, Deployment, Principal, Reply, Secret
from proxy.frozen import freeze

deployment = Deployment()
deployment.complete("d", ())
cache = ResponseCache(deployment, Secret(sys.argv[2]), path=sys.argv[1], most_entries=100)

def call(number):
    body = freeze({"model": "m", "prompt": str(number), "temperature": 0})
    return Call(id="1", endpoint="completions", body=body, principal=Principal("a"), model="m")

def reply(number):
    choice = {"index": 0, "text": str(number), "finish_reason": "stop"}
    return Reply(status=200, body=freeze({"choices": [choice]}))

def work(begin):
    for number in range(begin, begin + 60):
        cache.observe_response(call(number % 80), reply(number % 80))
        found = cache.answer_request(call(number % 80))
        assert found is None or found.body["choices"][0]["text"] == str(number % 80), found

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work, args=(begin,)) for begin in (0, 20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
hits = sum(cache.answer_request(call(number)) is not None for number in range(80))
print(hits, cache._outage.without, flush=True)
"""


def test_workers_share_one_file_and_never_get_each_others_answers_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "cache.db"), SECRET]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, env=environ, **pipes) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        told = []
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            told.append(worker.stdout.readline().split())
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    # Each wrote all eighty; what one could not write, as the file was busy, another did.
    assert [int(hits) for hits, _ in told] == [80, 80, 80]
    assert entries(tmp_path) == 80


def test_a_child_of_a_process_opens_the_file_anew(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "cache.db", 10, 1000)
    storage.put(b"a", b"parent", 1.0, 10.0)
    child = os.fork()
    if child == 0:
        ok = storage.get(b"a", 1.0) == b"parent"
        storage.put(b"b", b"child", 1.0, 10.0)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (storage.get(b"a", 1.0), storage.get(b"b", 1.0)) == (b"parent", b"child")


# -- Redis -------------------------------------------------------------------------------------------


@pytest.fixture
def central(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CACHE_REDIS", redis_url)
    return {"redis": {"env": "CACHE_REDIS"}}


def test_machines_share_a_redis(tmp_path: Path, central: Mapping[str, Any]) -> None:
    with gateway(*numbered(), plugins=[cache(tmp_path, **central)]) as gate:
        gate.ask(ASKED)
        eventually(lambda: is_hit(gate.ask(ASKED)))
    one, other = (plugin(redis=Secret(os.environ["CACHE_REDIS"])) for _ in range(2))
    one.observe_response(person("a"), Reply(status=200, body=freeze(REPLY)))
    found = other.answer_request(person("a"))
    assert found is not None
    assert found.body == REPLY
    assert other.answer_request(person("b")) is None


def test_a_redis_that_is_away_costs_hits_and_no_call(
    tmp_path: Path,
    redis_server: Redis,
    central: Mapping[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with gateway(*numbered(50), plugins=[cache(tmp_path, **central)]) as gate:
        gate.ask(ASKED)
        eventually(lambda: is_hit(gate.ask(ASKED)))
        redis_server.stop()
        try:
            for _ in range(3):
                assert not is_hit(gate.ask(ASKED))
            assert caplog.text.count("the Redis of the response cache cannot be used") == 1
        finally:
            redis_server.start()
        eventually(lambda: is_hit(gate.ask(ASKED)))


# -- configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret": Secret("too short for this")}, "openssl rand -hex 32"),
        ({"ttl": 0.0}, "ttl = 0.0"),
        ({"ttl": float("inf")}, "ttl = inf"),
        ({"most_entries": 0}, "most_entries = 0: at least 1"),
        ({"path": "/nowhere/at/all/cache.db"}, "no such directory"),
        ({"path": "a.db", "redis": Secret("redis://127.0.0.1")}, "remove one of the two"),
        ({"redis": Secret("http://127.0.0.1")}, "begins with none of"),
        ({"redis": Secret("redis://127.0.0.1:port/0")}, "cannot be read"),
    ],
)
def test_options_that_will_not_do_say_what_will(options: dict[str, Any], message: str) -> None:
    given = {"secret": Secret(SECRET), **options}
    with pytest.raises(ConfigError, match=message):
        ResponseCache(Deployment(), **given)


def test_misspelt_options_name_the_right_ones() -> None:
    for options, told in (({"per": "user"}, "write one of"), ({"tll": 1}, "Did you mean 'ttl'")):
        with pytest.raises(ConfigError, match=told):
            harness("response_cache", secret={"env": "CACHE_SECRET"}, **options)
    with pytest.raises(ConfigError, match="'secret' is missing"):
        harness("response_cache")


def test_the_file_is_where_the_service_manager_says_or_in_a_folder_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}:/elsewhere")
    assert str(tmp_path / "outgate-cache.db") in plugin()._outage._what
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert f"outgate-{os.getuid()}/outgate-cache.db" in plugin()._outage._what


def test_it_works_in_the_kit_for_tests(tmp_path: Path) -> None:
    loaded: Harness = harness(
        "response_cache", secret={"env": "CACHE_SECRET"}, path=str(tmp_path / "cache.db")
    )
    first = loaded.respond(REPLY, temperature=0)
    second = loaded.respond({"choices": []}, temperature=0)
    assert (first.record.answered_by, second.record.answered_by) == (None, "response_cache")
    assert second.reply == REPLY
    assert second.headers["x-outgate-cache"] == "hit"
    other = loaded.given(caller="bob").respond({"choices": []}, temperature=0)
    assert other.record.answered_by is None


def test_a_storage_that_hangs_is_not_waited_for_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = plugin(redis=Secret(f"redis://127.0.0.1:{server.getsockname()[1]}/0"))
        started = time.monotonic()
        for _ in range(500):
            assert made.answer_request(person("a")) is None
        assert time.monotonic() - started < 30, "each alone would take half a second"
        assert made._outage.without == 500


def test_a_refused_call_stays_refused_whatever_is_kept(tmp_path: Path) -> None:
    policy = {"request": {"codename": "deny"}}
    with gateway(*numbered(), plugins=[cache(tmp_path), GUARD], policy=policy) as gate:
        refused(gate.ask({**ASKED, "prompt": "BLUEBIRD"}), 400, "content_policy_violation")
        gate.record()
    assert entries(tmp_path) == 0
