import contextlib
import logging
import time

import pytest

from proxy import Charge, Counts, Labels, Unavailable
from proxy.store import Store
from proxy.store.entries import Balance, Used, this_hour
from proxy.store.settling import Settlement
from tests.store.servers import opened

WHO = Labels(key="key_1")
ONE = Counts(calls=1)
TOO_MUCH = Counts(cost=2**63)


def charge(amount: int, budget: str = "b") -> Charge:
    return Charge(budget, "key_1", "2026", "tokens", amount, 1000)


def reserve(store: Store, call: str, *amounts: int) -> bool:
    charges = [charge(amount, f"b{n}") for n, amount in enumerate(amounts)]
    return store.ledger.reserve(call, charges, WHO) is None


def settle(store: Store, call: str, *amounts: int, spent: int, counts: Counts = ONE) -> None:
    charges = [charge(amount, f"b{n}") for n, amount in enumerate(amounts)]
    store.ledger.settle(call, charges, {"tokens": spent}, WHO, counts)


def balance(store: Store, budget: str = "b0") -> Balance:
    return store.ledger.balance(budget, "key_1", "2026", "tokens")


def calls(store: Store) -> int:
    return sum(row["calls"] for row in store.usage.report([]))


@pytest.fixture
def patient(store: Store) -> Store:
    """A process that writes nothing of its own accord."""
    store.ledger._settling._pause = 3600
    return store


@pytest.fixture
def other(store: Store) -> Store:
    """The same database as another process sees it."""
    return opened(str(store.table.url))


def test_a_settlement_is_written_a_moment_later_by_itself(store: Store, other: Store) -> None:
    reserve(store, "c1", 600)
    settle(store, "c1", 600, spent=10)
    deadline = time.monotonic() + 60
    while balance(other) != Balance(10, 0):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert calls(other) == 1


def test_until_it_is_written_what_was_reserved_is_held_back(patient: Store, other: Store) -> None:
    reserve(patient, "c1", 600)
    settle(patient, "c1", 600, spent=10)
    assert balance(other) == Balance(0, 600)
    assert not reserve(other, "c2", 500)
    patient.ledger.flush()
    assert balance(other) == Balance(10, 0)


def test_whoever_asks_in_the_same_process_sees_what_it_has_settled(patient: Store) -> None:
    for number in range(2):
        reserve(patient, f"c{number}", 100)
        settle(patient, f"c{number}", 100, spent=7)
        assert balance(patient) == Balance(7 * (number + 1), 0)
    settle(patient, "c2", spent=0)
    assert calls(patient) == 3


def test_a_call_that_needs_what_others_have_left_gets_it_at_once(patient: Store) -> None:
    for number in range(5):
        assert reserve(patient, f"c{number}", 900)
        settle(patient, f"c{number}", 900, spent=1)
    assert balance(patient) == Balance(5, 0)


def test_many_calls_of_many_purses_are_written_together(patient: Store, other: Store) -> None:
    for number in range(150):
        assert reserve(patient, f"c{number}", 2, 3)
        settle(patient, f"c{number}", 2, 3, spent=number % 2)
    assert balance(other) == Balance(0, 300)
    patient.ledger.flush()
    assert balance(other) == balance(other, "b1") == Balance(75, 0)
    assert calls(other) == 150


def test_a_call_that_is_settled_twice_in_one_transaction_pays_once(patient: Store) -> None:
    reserve(patient, "c1", 600)
    for _ in range(3):
        settle(patient, "c1", 600, spent=10)
    assert balance(patient) == Balance(10, 0)
    assert calls(patient) == 1


def test_one_that_cannot_be_written_does_not_hold_up_the_others(
    patient: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(12):
        reserve(patient, f"c{number}", 10)
        counts = TOO_MUCH if number == 5 else ONE
        settle(patient, f"c{number}", 10, spent=1, counts=counts)
    for _ in range(30):
        # What PostgreSQL refuses looks like a database that is away, and is tried again.
        with contextlib.suppress(Unavailable):
            patient.ledger.flush()
    assert balance(other) == Balance(11, 10)
    assert calls(other) == 11
    if patient.database.is_sqlite:
        assert "the settlement of c5 cannot be written" in caplog.text


def test_what_is_settled_after_the_end_is_written_at_once(patient: Store, other: Store) -> None:
    reserve(patient, "c1", 600)
    ledger = patient.ledger
    ledger._settling.close()
    ledger.settle("c1", [charge(600, "b0")], {"tokens": 10}, WHO, ONE)
    assert balance(other) == Balance(10, 0)


def test_what_is_too_much_for_the_memory_is_told(
    patient: Store, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Settlement("c0", (), {}, Used(this_hour(), WHO, ONE), unsure=False)
    patient.ledger._settling._waiting.extend([waiting] * 100_000)
    with caplog.at_level(logging.ERROR):
        settle(patient, "c1", spent=0)
    assert "too many settlements wait for the database; that of c1 is lost" in caplog.text
    patient.ledger._settling._waiting.clear()
