"""Counters in a Redis: what happens while it is away, and after it came back empty."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from plugins.rate_limit.central import CentralStorage
from plugins.rate_limit.window import Correction, Demand
from proxy import ConfigError, Secret
from tests.gateway import COMPLETION, STREAMED, chunk, gateway, read_answer
from tests.store.servers import Redis
from tests.upstream import WAIT, sse

PATIENCE = 60.0


def limits(
    monkeypatch: pytest.MonkeyPatch, url: str, *rules: dict[str, Any], **options: Any
) -> dict[str, Any]:
    monkeypatch.setenv("LIMITS_REDIS", url)
    return {
        "use": "rate_limit",
        "options": {"rules": list(rules), "redis": {"env": "LIMITS_REDIS"}, **options},
    }


@pytest.fixture
def mortal(redis_server: Redis, redis_url: str) -> Iterator[Redis]:
    """A Redis that a test may end; it runs again afterwards."""
    assert redis_url
    yield redis_server
    if redis_server.process is None:
        redis_server.start()


@pytest.fixture
def central(redis_url: str) -> CentralStorage:
    return CentralStorage(Secret(redis_url), 15.0)


def test_a_place_that_is_left_while_it_is_told_again_is_free(
    central: CentralStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, seat = central._places, Demand(b"k", 1)
    refresh, left = places._refresh, threading.Event()
    had_left: list[bool] = []

    def slow(**arguments: Any) -> None:
        leaver.start()
        had_left.append(left.wait(0.1))
        refresh(**arguments)

    def leave() -> None:
        central.settle([Correction(seat, 0, 0)], "one")
        left.set()

    leaver = threading.Thread(target=leave)
    monkeypatch.setattr(places, "_refresh", slow)
    assert not central.take([seat], "one", 9.0)[0].wait
    places.tell()
    leaver.join(PATIENCE)
    assert (had_left, left.is_set()) == ([False], True)
    assert not central.take([seat], "two", 9.0)[0].wait


def test_places_of_a_storage_that_is_gone_are_not_told_again(redis_url: str) -> None:
    before = set(threading.enumerate())
    storage = CentralStorage(Secret(redis_url), 0.03)
    assert not storage.take([Demand(b"k", 1)], "one", 9.0)[0].wait
    started = set(threading.enumerate()) - before
    (keeper,) = (thread for thread in started if thread.name == "rate-limit-places")
    del storage
    keeper.join(PATIENCE)
    assert not keeper.is_alive()


def test_limits_hold_and_are_shown(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ({"per": "key", "requests": "3/minute"}, {"per": "all", "tokens": "1000/hour"})
    with gateway(plugins=[limits(monkeypatch, redis_url, *rules)]) as gate:
        answers = [gate.ask(COMPLETION) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        shown = [answer.header("x-ratelimit-remaining-requests") for answer in answers]
        assert shown == ["2", "1", "0", "0"]
        assert 50 <= int(answers[3].header("retry-after") or "") <= 61
        gate.record(4)
        assert answers[3].header("x-ratelimit-remaining-tokens") is not None


def test_while_it_is_away_calls_are_refused_and_pass_again_when_it_is_back(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"per": "key", "requests": "1000/minute", "concurrent": 9}
    with gateway(plugins=[limits(monkeypatch, mortal.url, rule)]) as gate:
        assert gate.ask(COMPLETION).status == 200
        mortal.stop(signal.SIGKILL)
        for _ in range(5):
            answer = gate.ask(COMPLETION)
            assert answer.status == 503
            assert answer.error["code"] == "state_unavailable"
            assert answer.header("retry-after")
        assert len(gate.upstream.requests) == 1
        mortal.start()
        _until_served(gate)
    lines = [r.message for r in caplog.records if r.name == "outgate.rate_limit"]
    assert len([line for line in lines if "cannot be used" in line]) == 1
    assert len([line for line in lines if "again" in line]) == 1


def test_while_it_is_away_calls_pass_if_the_operator_says_so_and_are_counted(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = limits(monkeypatch, mortal.url, {"per": "key", "requests": "1/day"}, on_outage="allow")
    with gateway(plugins=[entry]) as gate, caplog.at_level(logging.WARNING):
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [200, 429]
        mortal.stop(signal.SIGKILL)
        answers = [gate.ask(COMPLETION) for _ in range(7)]
        assert {answer.status for answer in answers} == {200}
        assert answers[0].header("x-ratelimit-remaining-requests") is None
        mortal.start()
        deadline = time.monotonic() + PATIENCE
        # It came back empty: one call passes within its limit, the next does not.
        while gate.ask(COMPLETION).status != 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert "calls pass without limits" in caplog.text
    back = next(r.message for r in caplog.records if "can be used again" in r.message)
    assert int(back.split("again; ")[1].split()[0]) >= 7


def test_a_restart_between_two_calls_is_noticed_by_nobody(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = limits(monkeypatch, mortal.url, {"per": "key", "requests": "100/day"})
    with gateway(plugins=[entry]) as gate:
        assert gate.ask(COMPLETION).status == 200
        mortal.restart()
        assert gate.ask(COMPLETION).status == 200


def test_a_running_call_holds_its_place_again_after_a_restart(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = limits(monkeypatch, mortal.url, {"per": "key", "concurrent": 1}, lease=1.0)
    with gateway(sse([chunk("Hi"), WAIT, chunk("", "stop"), "[DONE]"]), plugins=[entry]) as gate:
        held = gate.send(STREAMED)
        gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
        mortal.restart()
        with redis.Redis.from_url(mortal.url) as client:
            deadline = time.monotonic() + PATIENCE
            while not client.keys():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert gate.ask(STREAMED).status == 429
        gate.upstream.release()
        with held:
            assert read_answer(held).status == 200


def test_a_call_that_ends_while_it_is_away_is_no_fault_and_its_place_comes_back(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = limits(monkeypatch, mortal.url, {"per": "key", "concurrent": 1}, lease=1.0)
    with gateway(sse([chunk("Hi"), WAIT, chunk("", "stop"), "[DONE]"]), plugins=[entry]) as gate:
        with gate.send(STREAMED) as held:
            gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
            mortal.stop(signal.SIGKILL)
            gate.upstream.release()
            assert read_answer(held).status == 200
        assert gate.record().outcome == "ok"
        mortal.start()
        _until_served(gate)


def test_one_that_hangs_costs_a_bounded_time_and_only_now_and_then(
    mortal: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = limits(monkeypatch, mortal.url, {"per": "key", "requests": "100/day"})
    with gateway(plugins=[entry]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert mortal.process is not None
        mortal.process.send_signal(signal.SIGSTOP)
        try:
            assert {gate.ask(COMPLETION).status for _ in range(4)} == {503}
        finally:
            mortal.process.send_signal(signal.SIGCONT)
        _until_served(gate)


def test_no_log_line_shows_the_password_of_the_url(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = "redis://limiter:hunter2-hunter2@127.0.0.1:1/0"
    with gateway(plugins=[limits(monkeypatch, url, {"per": "all", "requests": "1/day"})]) as gate:
        answer = gate.ask(COMPLETION)
    assert answer.status == 503
    assert "cannot be used" in caplog.text
    assert "hunter2" not in caplog.text + str(answer.body)


def test_what_was_guessed_is_corrected_where_it_was_put(central: CentralStorage) -> None:
    demand = Demand(b"k", 100, 80, 60.0)
    (taken,) = central.take([demand], "one", 60)
    assert (taken.wait, taken.used) == (0, 80)
    central.settle([Correction(demand, taken.cell, -70)], "one")
    (taken,) = central.take([demand], "two", 60)
    assert (taken.wait, taken.used) == (0, 90)
    central.settle([Correction(demand, taken.cell, 60)], "two")
    (taken,) = central.take([Demand(b"k", 100, 1, 60.0)], "three", 60)
    assert taken.used == 150
    assert 55 < taken.wait <= 61
    central.settle([Correction(demand, taken.cell - 500, -60)], "two")
    assert central.take([Demand(b"k", 100, 1, 60.0)], "three", 60)[0].used == 150


def test_all_comes_back_in_time(central: CentralStorage) -> None:
    demand = Demand(b"k", 2, 2, 1.0)
    assert central.take([demand], "one", 60)[0].wait == 0
    (taken,) = central.take([demand], "two", 60)
    assert 0 < taken.wait <= 1.02
    time.sleep(taken.wait)
    assert central.take([demand], "three", 60)[0].wait == 0


def test_what_a_clock_that_was_set_back_left_in_the_future_counts_as_used_now(
    central: CentralStorage, redis_url: str
) -> None:
    demand = Demand(b"k", 10, 1, 60.0)
    (taken,) = central.take([demand], "one", 60)
    with redis.Redis.from_url(redis_url) as client:
        (key,) = client.keys()
        client.hset(key, str(taken.cell + 3600), 4)
        client.hset(key, str(taken.cell + 7200), 2)
        assert central.take([demand], "two", 60)[0].used == 8
        cells = client.hgetall(key)
        assert sum(map(int, cells.values())) == 8
        assert max(map(int, cells)) <= taken.cell + 10
        assert 0 < client.pttl(key) <= 62_001  # rounded up


def test_a_place_that_is_left_is_free(central: CentralStorage) -> None:
    seat = Demand(b"k", 1)
    assert central.take([seat], "one", 60)[0].wait == 0
    assert central.take([seat], "two", 60)[0].wait > 0
    central.settle([Correction(seat, 0, 0)], "one")
    assert central.take([seat], "two", 60)[0].wait == 0


def test_a_url_that_cannot_be_read_is_said_without_it() -> None:
    with pytest.raises(ConfigError, match="redis://host:6379/0") as caught:
        CentralStorage(Secret("redis.example.org:6379/hunter2"), 15.0)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        CentralStorage(Secret("redis://:hunter2@h:port/0"), 15.0)
    assert "hunter2" not in str(caught.value)


def _until_served(gate: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while gate.ask(COMPLETION).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
