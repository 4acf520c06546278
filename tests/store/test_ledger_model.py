"""The ledger against a model of itself, whatever happens in whatever order."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Final

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

from proxy import Charge, Counts, Labels
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
    spent: int


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

    def fits(self, charges: tuple[Charge, ...]) -> bool:
        return all(
            self.settled[one.budget] + self.reserved[one.budget] + one.amount <= one.cap
            for one in charges
        )

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
        charges = tuple(
            Charge(name, self.run, "2026", "tokens", amount, CAPS[name])
            for name, amount in amounts.items()
        )
        if not self.fits(charges):
            self.written(process)
        short = self.processes[process].ledger.reserve(call, charges, Labels(key=self.run))
        assert (short is None) == self.fits(charges)
        if short is not None:
            left = CAPS[short.charge.budget] - self.settled[short.charge.budget]
            assert short.left == max(0, left - self.reserved[short.charge.budget])
            return multiple()
        self.open[call] = Taken(charges, process)
        for one in charges:
            self.reserved[one.budget] += one.amount
        return call

    @rule(call=calls, process=st.integers(0, 2), share=st.integers(0, 100), over=st.booleans())
    def settle(self, call: str, process: int, share: int, over: bool) -> None:
        """By whichever process, once or again; sometimes an upstream counts more than was reserved."""
        taken = self.open.get(call)
        charges = taken.charges if taken else (Charge("day", self.run, "2026", "tokens", 5, 60),)
        least = min(one.amount for one in charges)
        spent = least * share // 100 + (3 if over and share == 100 else 0)
        counts = Counts(calls=1, prompt_tokens=spent)
        labels = Labels(key=self.run)
        self.processes[process].ledger.settle(call, charges, {"tokens": spent}, labels, counts)
        self.waiting[process].append(Waiting(call, spent))

    @rule(process=st.integers(0, 2))
    def flush(self, process: int) -> None:
        """What waits is written: all of it in one transaction."""
        self.processes[process].ledger.flush()
        self.written(process)

    def written(self, process: int) -> None:
        """The model of that."""
        while self.waiting[process]:
            waiting = self.waiting[process].pop(0)
            taken = self.open.pop(waiting.call, None)
            if taken is not None:
                self.paid(taken, waiting.spent)

    def paid(self, taken: Taken, spent: int) -> None:
        self.book(calls=1, prompt_tokens=spent)
        if taken.returned:
            self.book(calls=-1, abandoned=-1)
        for one in taken.charges:
            self.reserved[one.budget] -= 0 if taken.returned else one.amount
            self.settled[one.budget] += spent
            excess = spent if taken.returned else max(0, spent - one.amount)
            self.over[one.budget] += excess

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
