"""The ledger against a model of itself, whatever happens in whatever order."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy import Charge, Counts, Labels, Unavailable
from proxy.store import Store, StoreTable
from proxy.store.holders import Holder, host

CAPS: Final = {"day": 60, "team": 100, "month": 250}
_numbers: Final = itertools.count()


@dataclass
class Taken:
    """A reservation of the model."""

    charges: tuple[Charge, ...]
    process: int
    returned: bool = False


@dataclass
class Waiting:
    """A settlement of the model that is not written."""

    call: str
    charges: tuple[Charge, ...]
    spent: int
    unsure: bool


class Spending(RuleBasedStateMachine):
    """Three processes and three purses; each call takes from some of them.

    What is settled waits in its process until that writes it, on its own or because a purse is short.
    """

    url = ""
    #: Shared by all runs, each of which has a subject of its own: to open a store costs more than a run.
    processes: ClassVar[list[Store]]
    #: Sees what everybody sees: it settles nothing, so it has nothing to write.
    observer: ClassVar[Store]
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.run = f"run-{next(_numbers)}"
        self.open: dict[str, Taken] = {}
        self.waiting: list[list[Waiting]] = [[], [], []]
        self.settled = dict.fromkeys(CAPS, 0)
        self.reserved = dict.fromkeys(CAPS, 0)
        self.over = dict.fromkeys(CAPS, 0)
        self.booked = Counts()

    @classmethod
    def opened(cls) -> Store:
        # A lease this long never ends: the dead are told by their process alone.
        store = Store(StoreTable(url=cls.url, lease=3600))
        store.ledger._settling._pause = 3600  # settlements wait until a rule has them written
        return store

    def charges(self, amounts: dict[str, int]) -> tuple[Charge, ...]:
        return tuple(
            Charge(name, self.run, "2026", "tokens", amount, CAPS[name])
            for name, amount in amounts.items()
        )

    def held(self, call: str) -> dict[str, int]:
        """What a call holds of each purse."""
        taken = self.open.get(call)
        if taken is None or taken.returned:
            return {}
        return {one.budget: one.amount for one in taken.charges}

    def left(self, name: str, call: str) -> int:
        """What is left for a call in a purse, if it gives back what it holds."""
        held = self.held(call).get(name, 0)
        return CAPS[name] - self.settled[name] - self.reserved[name] + held

    def fits(self, charges: tuple[Charge, ...], call: str = "") -> bool:
        return all(one.amount <= self.left(one.budget, call) for one in charges)

    def book(self, **changes: int) -> None:
        known = {name: getattr(self.booked, name) for name in Counts.__struct_fields__}
        self.booked = Counts(**{k: n + changes.get(k, 0) for k, n in known.items()})

    @rule(
        target=calls,
        process=st.integers(0, 2),
        amounts=st.dictionaries(st.sampled_from(sorted(CAPS)), st.integers(0, 80), min_size=1),
    )
    def reserve(self, process: int, amounts: dict[str, int]) -> Any:
        call = f"call-{next(_numbers)}"
        charges = self.charges(amounts)
        if not self.fits(charges):
            self.written(process)
        short = self.processes[process].ledger.reserve(call, charges, Labels(key=self.run))
        assert (short is None) == self.fits(charges)
        if short is not None:
            assert short.left == max(0, self.left(short.charge.budget, ""))
            return multiple()
        self.open[call] = Taken(charges, process)
        for one in charges:
            self.reserved[one.budget] += one.amount
        return call

    @rule(
        call=calls,
        process=st.integers(0, 2),
        amounts=st.dictionaries(st.sampled_from(sorted(CAPS)), st.integers(0, 80)),
    )
    def reserve_again(self, call: str, process: int, amounts: dict[str, int]) -> None:
        """Other amounts, other purses, or none, in place of what the call has, whatever became of that."""
        charges = self.charges(amounts)
        if not self.fits(charges, call):
            self.written(process)
        ledger = self.processes[process].ledger
        short = ledger.reserve(call, charges, Labels(key=self.run), again=True)
        assert (short is None) == self.fits(charges, call)
        if short is not None:
            assert short.left == max(0, self.left(short.charge.budget, call))
            return
        for name, amount in self.held(call).items():
            self.reserved[name] -= amount
        former = self.open.pop(call, None)
        if former is not None and former.returned:
            self.book(calls=-1, abandoned=-1)
        if charges:
            self.open[call] = Taken(charges, process)
        for one in charges:
            self.reserved[one.budget] += one.amount

    @rule(call=calls, process=st.integers(0, 2), amount=st.integers(0, 20))
    def break_off(self, call: str, process: int, amount: int) -> None:
        """The database fails when half of the purses are moved: everything is as it was."""
        charges = (
            *self.charges(dict.fromkeys(CAPS, amount)),
            Charge("year", self.run, "2026", "tokens", 2**63, 2**64),
        )
        if self.fits(charges[:-1], call):
            with pytest.raises((Unavailable, OverflowError)):
                self.processes[process].ledger.reserve(
                    call, charges, Labels(key=self.run), again=True
                )

    @rule(
        call=calls,
        process=st.integers(0, 2),
        share=st.integers(0, 100),
        over=st.booleans(),
        unsure=st.booleans(),
    )
    def settle(self, call: str, process: int, share: int, over: bool, unsure: bool) -> None:
        """By whichever process, once or again; sometimes an upstream counts more than was reserved."""
        taken = self.open.get(call)
        charges = taken.charges if taken else (Charge("day", self.run, "2026", "tokens", 5, 60),)
        least = min(one.amount for one in charges)
        spent = least * share // 100 + (3 if over and share == 100 else 0)
        counts = Counts(calls=1, prompt_tokens=spent)
        labels = Labels(key=self.run)
        self.processes[process].ledger.settle(
            call, charges, {"tokens": spent}, labels, counts, unsure=unsure
        )
        self.waiting[process].append(Waiting(call, charges, spent, unsure))

    @rule(process=st.integers(0, 2))
    def flush(self, process: int) -> None:
        """What waits is written: all of it in one transaction."""
        self.processes[process].ledger.flush()
        self.written(process)

    def written(self, process: int) -> None:
        """The model of that."""
        while self.waiting[process]:
            waiting = self.waiting[process].pop(0)
            taken = self.open.get(waiting.call)
            if taken is not None or waiting.unsure:
                self.paid(waiting, taken)

    def paid(self, waiting: Waiting, taken: Taken | None) -> None:
        spent = waiting.spent
        self.book(calls=1, prompt_tokens=spent)
        if taken is not None and taken.returned:
            self.book(calls=-1, abandoned=-1)
        held = self.held(waiting.call)
        self.open.pop(waiting.call, None)
        for name, amount in held.items():
            self.reserved[name] -= amount
        for one in waiting.charges:
            self.settled[one.budget] += spent
            self.over[one.budget] += max(0, spent - held.get(one.budget, 0))

    @precondition(lambda self: self.open)
    @rule(process=st.integers(0, 2))
    def kill(self, process: int) -> None:
        """The process is gone with all that it had not written, and the next one that begins notices."""
        store = self.processes[process]
        mark = "?" if store.database.is_sqlite else "%s"
        store.ledger._settling._waiting.clear()
        self.waiting[process].clear()
        holder = store.ledger._holder
        if holder is not None:
            with store.database.driver(write=True) as raw:
                dead = Holder(holder.id, host(), 2**22 + 1, 1)  # no process has such a number
                raw.execute(
                    f"UPDATE outgate_holders SET pid = {mark} WHERE id = {mark}",
                    (dead.pid, dead.id),
                )
        self.processes[process] = self.opened()
        reserve = self.processes[process].ledger.reserve
        assert reserve(f"call-{next(_numbers)}", (), Labels(key="none")) is None
        store.close()
        for taken in self.open.values():
            if taken.process == process and not taken.returned:
                taken.returned = True
                self.book(calls=1, abandoned=1)
                for one in taken.charges:
                    self.reserved[one.budget] -= one.amount

    @invariant()
    def every_purse_is_as_in_the_model(self) -> None:
        for name, cap in CAPS.items():
            found = self.observer.ledger.balance(name, self.run, "2026", "tokens")
            assert (found.settled, found.reserved) == (self.settled[name], self.reserved[name])
            assert found.settled + found.reserved <= cap + self.over[name]

    @invariant()
    def the_book_is_as_in_the_model(self) -> None:
        rows = self.observer.usage.report(["key"], where={"key": self.run})
        found = {name: rows[0][name] if rows else 0 for name in Counts.__struct_fields__}
        assert found == {name: getattr(self.booked, name) for name in found}


def test_whatever_happens_the_ledger_is_as_its_model(store: Store) -> None:
    class Here(Spending):
        url = str(store.table.url)

    Here.processes = [Here.opened() for _ in range(3)]
    Here.observer = store
    examples = 40 if store.database.is_sqlite else 15
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    for process in Here.processes:
        process.close()
