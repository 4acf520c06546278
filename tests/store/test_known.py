import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from proxy import Unavailable
from proxy.store.known import _MOST_KNOWN, _MOST_UNKNOWN, POLL, VALID, Known


class Shelf:
    """What the database would say, and how often it was asked."""

    def __init__(self) -> None:
        self.number = 1
        self.rows: dict[str, str] = {"a": "apple"}
        self.away = False
        self.asked = self.looked = 0
        self.before: Callable[[], object] = lambda: None
        self.known = Known(self.look)

    def look(self) -> int:
        self.looked += 1
        self.before()
        self._answer()
        return self.number

    def read(self, name: str) -> tuple[int, str | None]:
        self.asked += 1
        self._answer()
        return self.number, self.rows.get(name)

    def get(self, name: str) -> Any:
        return self.known.get(name, lambda: self.read(name))

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("away")


def test_an_answer_is_read_once() -> None:
    shelf = Shelf()
    assert [shelf.get("a") for _ in range(100)] == ["apple"] * 100
    assert [shelf.get("b") for _ in range(100)] == [None] * 100
    assert shelf.asked == 2


def test_a_change_is_seen_after_the_next_look() -> None:
    shelf = Shelf()
    assert (shelf.get("a"), shelf.get("b")) == ("apple", None)
    shelf.rows, shelf.number = {"b": "pear"}, 2
    time.sleep(POLL)
    assert (shelf.get("a"), shelf.get("b")) == (None, "pear")


def test_a_number_that_goes_back_is_a_change_too() -> None:
    shelf = Shelf()
    shelf.number = 7
    assert shelf.get("a") == "apple"
    shelf.rows, shelf.number = {}, 3
    time.sleep(POLL)
    assert shelf.get("a") is None
    assert shelf.get("a") is None


def test_what_was_read_before_a_change_is_never_kept_after_it() -> None:
    shelf = Shelf()

    def read() -> tuple[int, str]:
        before = (shelf.number, shelf.rows["a"])
        shelf.rows, shelf.number = {}, 2
        time.sleep(POLL)
        shelf.get("other")  # sees the change meanwhile
        return before

    assert shelf.known.get("a", read) == "apple"  # it was so when it was asked
    assert shelf.get("a") is None


def test_answers_outlive_the_database_for_less_than_a_second() -> None:
    shelf = Shelf()
    assert shelf.get("a") == "apple"
    shelf.away = True
    time.sleep(POLL)
    assert shelf.get("a") == "apple"
    with pytest.raises(Unavailable):
        shelf.get("c")
    time.sleep(VALID - POLL)
    with pytest.raises(Unavailable):
        shelf.get("a")
    assert VALID < 1


def test_a_database_that_is_away_is_not_asked_by_every_call() -> None:
    shelf = Shelf()
    shelf.away = True
    for _ in range(50):
        with pytest.raises(Unavailable):
            shelf.get("a")
    assert shelf.looked <= 5
    shelf.away = False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            assert shelf.get("a") == "apple"
            break
        time.sleep(0.05)
    assert shelf.get("a") == "apple"


def test_one_thread_looks_and_the_others_do_not_wait_for_it() -> None:
    shelf = Shelf()
    assert shelf.get("a") == "apple"
    going, done = threading.Event(), threading.Event()

    def wait() -> None:
        going.set()
        done.wait(60)

    shelf.before = wait
    time.sleep(POLL)
    refused: list[Unavailable] = []

    def look() -> None:
        try:
            shelf.get("a")
        except Unavailable as error:
            refused.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    going.wait(60)
    assert shelf.get("a") == "apple"
    time.sleep(VALID)
    with pytest.raises(Unavailable):  # the other one still waits: too old by now
        shelf.get("a")
    done.set()
    thread.join(60)
    assert len(refused) == 1  # what it has seen is too old, too
    shelf.before = lambda: None
    assert shelf.get("a") == "apple"


def test_neither_strangers_nor_keys_fill_the_memory() -> None:
    shelf = Shelf()
    for number in range(_MOST_UNKNOWN + 10):
        shelf.get(f"stranger {number}")
    assert len(shelf.known._unknown) <= _MOST_UNKNOWN
    for number in range(_MOST_KNOWN + 10):
        shelf.known._keep(number, 1, "key")
    assert len(shelf.known._known) <= _MOST_KNOWN
