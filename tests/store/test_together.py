"""Threads that reserve at the same time share a transaction, and each of them gets its own answer."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from proxy import Unavailable
from proxy.store import Store
from proxy.store.entries import Balance, Shortage
from proxy.store.together import Together, Wish
from tests.store.servers import opened
from tests.store.test_ledger import balance, charge, eventually, reserve, settle

_THREADS: Final = 12


class Counted:
    """Notes how many were done together; a transaction waits until it is let go."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self.groups: list[int] = []
        self.go = threading.Event()
        self.fails = fails
        self.together = Together[Wish](self.lead)

    def lead(self, those: Callable[[], Sequence[Wish]]) -> None:
        self.groups.append(len(those()))
        self.go.wait()
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(f"sqlite:///{tmp_path / 'outgate.db'}")


def test_who_is_alone_does_it_at_once() -> None:
    counted = Counted()
    counted.go.set()
    for _ in range(3):
        counted.together.do(Wish())
    assert counted.groups == [1, 1, 1]


def test_those_who_come_while_it_is_done_are_done_together() -> None:
    counted = Counted()
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [pool.submit(counted.together.do, Wish())]
        eventually(lambda: counted.groups == [1])
        found += [pool.submit(counted.together.do, Wish()) for _ in range(_THREADS - 1)]
        counted.go.set()
    assert [one.exception() for one in found] == [None] * _THREADS
    assert sum(counted.groups) == _THREADS


def test_a_fault_of_all_is_told_to_each() -> None:
    counted = Counted(Unavailable("The store does not answer.", retry_after=7))
    counted.go.set()
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [pool.submit(counted.together.do, Wish()).exception() for _ in range(_THREADS)]
    assert {type(each) for each in found} == {Unavailable}
    assert {each.retry_after for each in found if isinstance(each, Unavailable)} == {7}


def while_somebody_writes(
    store: Store, count: int, do: Callable[[int], Shortage | None]
) -> list[Shortage | None]:
    """What as many threads get who all come while a transaction is under way."""
    begun = threading.Barrier(count + 1)

    def one(number: int) -> Shortage | None:
        begun.wait()
        return do(number)

    reserve(store, "first", charge(1, "other"))  # so that this process is among the holders
    with ThreadPoolExecutor(count) as pool:
        with store.database.driver(write=True):
            found = [pool.submit(one, number) for number in range(count)]
            begun.wait()
            time.sleep(0.2)
        return [one.result() for one in found]


def test_those_who_come_meanwhile_get_what_there_is_and_the_others_nothing(store: Store) -> None:
    def ask(number: int) -> Shortage | None:
        return reserve(store, f"call-{number}", charge(20, cap=100), charge(1, "also"))

    shortages = while_somebody_writes(store, _THREADS, ask)
    granted = [number for number, short in enumerate(shortages) if short is None]
    assert len(granted) == 5
    assert balance(store) == Balance(0, 100)
    # A call that is refused leaves nothing in any purse: what it took before was undone.
    assert balance(store, "also") == Balance(0, 5)
    for number in granted:
        settle(store, f"call-{number}", charge(20, cap=100), charge(1, "also"), tokens=3)
    assert balance(store) == Balance(15, 0)


def test_while_nobody_can_write_all_who_wait_are_told_so(store: Store) -> None:
    reserve(store, "first", charge(1, "other"))
    with ThreadPoolExecutor(_THREADS) as pool, store.database.driver(write=True):
        found = [pool.submit(reserve, store, f"c{n}", charge(1)) for n in range(_THREADS)]
        errors = [one.exception() for one in found]
    assert {type(error) for error in errors} == {Unavailable}
    assert balance(store) == Balance()
