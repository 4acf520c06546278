"""The last day minute by minute: read from the trail once, then only what was added to it."""

import contextlib
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct, field

from proxy.audit.calls import ended
from proxy.audit.records import Entry, read_segment
from proxy.console.backwards import MOST, Budget, last_line, newest_first, sizes, timed
from proxy.console.calls import OVER, Summary, summary

DAY: Final = 24 * 3600
MINUTE: Final = 60
#: Different names of one sort that are told apart in a minute; the rest is "other".
_MOST_NAMES: Final = 50
_LATEST: Final = 500
_REMEMBERED: Final = 8192
OTHER: Final = "other"
T = TypeVar("T", bound=Hashable)


class Minute(Struct):
    """What ended in one minute; ``added`` counts calls by the time that the proxy added, rounded, in ms."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)
    added: Counter[float] = field(default_factory=Counter)
    tokens: int = 0

    def count(self, call: Summary) -> None:
        """Add a call."""
        _count(self.outcomes, call.outcome, OTHER)
        if call.outcome == "denied":
            _count(self.refusals, call.code or "no code", OTHER)
        for finding in call.findings:
            _count(self.findings, finding, (OTHER, finding[1]))
        if call.proxy_seconds is not None:
            self.added[_rounded(call.proxy_seconds * 1000)] += 1
        self.tokens += call.tokens

    def add(self, other: "Minute") -> None:
        """Add all of another minute."""
        for name in ("outcomes", "refusals", "findings", "added"):
            getattr(self, name).update(getattr(other, name))
        self.tokens += other.tokens


def _count(counter: Counter[T], name: T, otherwise: T) -> None:
    known = name in counter or len(counter) < _MOST_NAMES
    counter[name if known else otherwise] += 1


def _rounded(value: float) -> float:
    return float(f"{max(value, 0.001):.2g}")


class Picture(Struct, frozen=True):
    """What a page is drawn from; ``complete`` is the time from which on nothing is missing."""

    minutes: dict[int, Minute]
    latest: list[Summary]
    complete: float
    problem: str | None


class History:
    """One for each process, shared by its threads; ``look()`` first reads what the trail has got since."""

    def __init__(self, directory: str | None, most_bytes: int = MOST) -> None:
        self._directory, self._most_bytes = directory, most_bytes
        self._lock = threading.Lock()
        self._ends: dict[Path, int] = {}
        self._minutes: dict[int, Minute] = {}
        self._latest: deque[Summary] = deque(maxlen=_LATEST)
        self._met: OrderedDict[str, None] = OrderedDict()
        self._complete = math.inf
        self._begun = False

    def look(self) -> Picture:
        """How things are; where the trail cannot be read, ``problem`` says why."""
        with self._lock:
            problem = self._update()
            return Picture(
                dict(self._minutes), list(self._latest)[::-1], self._complete, problem
            )  # minutes that are over do not change, and of this one a page may show what it likes

    def _update(self) -> str | None:
        if self._directory is None:
            return "There is no [audit] in the configuration, so there is no record to show."
        try:
            if not self._begun:
                self._begin(self._directory)
            else:
                self._go_on(self._directory)
        except OSError as error:
            return f"The audit trail cannot be read: {error.strerror or type(error).__name__}."
        self._forget()
        return None

    def _begin(self, directory: str) -> None:
        """Read from the end back to yesterday, or as far as is reasonable."""
        budget, since = Budget(self._most_bytes), time.time() - DAY
        ends, found = sizes(directory), list[Summary]()
        reached = time.time()
        for at, entry in newest_first(_younger(ends, since), OVER, budget):
            if at < since or budget.spent:
                break
            self._fold(at, entry, found)
            reached = at
        self._complete = reached if budget.spent else since
        self._latest.extend(reversed(found[:_LATEST]))
        # The last line may be half written; it is read again, and counted once.
        self._ends = {path: last_line(path, end) for path, end in ends.items()}
        self._begun = True

    def _go_on(self, directory: str) -> None:
        found: list[Summary] = []
        for path, size in sizes(directory).items():
            end = min(self._ends.get(path, 0), size)
            self._ends[path] = self._follow(path, end, found) if size > end else end
        self._latest.extend(sorted(found, key=lambda call: call.at))

    def _follow(self, path: Path, end: int, found: list[Summary]) -> int:
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            for entry in read_segment(path, end, kinds=OVER):
                if isinstance(entry, Entry):
                    end = entry.end
                    if (known := timed(entry)) is not None:
                        self._fold(*known, found)
        return end

    def _fold(self, at: float, entry: Entry, found: list[Summary]) -> None:
        call = summary(at, ended(None, entry))
        # Outcomes of a segment that was given up are written again into the next one.
        if call.id in self._met:
            return
        self._met[call.id] = None
        if len(self._met) > _REMEMBERED:
            self._met.popitem(last=False)
        self._minutes.setdefault(int(at // MINUTE), Minute()).count(call)
        found.append(call)

    def _forget(self) -> None:
        oldest = (time.time() - DAY) // MINUTE
        for minute in [minute for minute in self._minutes if minute < oldest]:
            del self._minutes[minute]
        self._complete = max(self._complete, oldest * MINUTE)


def _younger(ends: Mapping[Path, int], since: float) -> dict[Path, int]:
    """The segments that were written to after ``since``."""
    found = {}
    for path, end in ends.items():
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            if path.stat().st_mtime >= since:
                found[path] = end
    return found


def together(minutes: Iterable[Minute]) -> Minute:
    """The sum of some minutes."""
    whole = Minute()
    for minute in minutes:
        whole.add(minute)
    return whole


def quantile(counts: Counter[float], share: float) -> float | None:
    """The value below which ``share`` of the counted ones lie."""
    left = share * sum(counts.values())
    for value, number in sorted(counts.items()):
        left -= number
        if left <= 0:
            return value
    return None
