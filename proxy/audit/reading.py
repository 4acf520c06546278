"""Reading the calls of a directory: all segments in the order of time, intents joined with outcomes, in bounded memory.

Nothing is verified here: what these functions say is what stands in the files, see ``verify``.
"""

import contextlib
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from proxy.audit.calls import Call, Query, begun, ended, written
from proxy.audit.records import Entry, is_name, read_segment, segments
from proxy.audit.records import begun as segment_begun

__all__ = ["Call", "Query", "Tail", "find", "follow", "latest", "search"]

Progress = Callable[[int], None]
_KINDS: Final = ("intent", "outcome", "recovered", "abandoned")
#: How long a call may last before its first record is made: a body that comes slowly.
_SLACK: Final = timedelta(hours=1)
_CHUNK: Final = 1 << 20
#: How far back ``latest`` looks, step by step, before it reads everything.
_WINDOWS: Final = (timedelta(minutes=10), timedelta(hours=3), timedelta(days=2), timedelta(days=30))


class Joiner:
    """Makes calls of records that come in the order of time; holds only those that are open."""

    def __init__(self, directory: Path, query: Query) -> None:
        self.open: dict[str, Call] = {}
        self._directory, self._query = directory, query
        self._passed: set[str] = set()  # open, and not of the time that is asked for
        self._early: dict[str, Entry] = {}
        self._twice: set[str] = set()

    def take(self, entry: Entry) -> Call | None:
        """Count a record in; gives the call that it ends, if any."""
        id_ = str(entry.body.get("id"))
        if entry.kind == "intent":
            return self._begin(id_, entry)
        if entry.kind == "abandoned":
            self._note_twice(entry)
            return None
        if id_ in self._twice:
            self._twice.discard(id_)
            return None
        if id_ in self._passed:
            self._passed.discard(id_)
            return None
        call = self.open.pop(id_, None)
        if call is None and entry.kind == "recovered":
            self._early[id_] = entry
            return None
        return ended(call, entry)

    def _begin(self, id_: str, entry: Entry) -> Call | None:
        call = begun(entry)
        early = self._early.pop(id_, None)
        if early is not None:
            return ended(call, early)
        if self._query.has_time(call.time):
            self.open[id_] = call
        else:
            self._passed.add(id_)
        return None

    def _note_twice(self, entry: Entry) -> None:
        """A process that gave a segment up wrote its last outcomes again: those that did arrive are there twice."""
        name, again = entry.body.get("segment"), entry.body.get("again")
        if not isinstance(again, list) or not again or not is_name(str(name)):
            return
        wanted = set(map(str, again))
        with contextlib.suppress(FileNotFoundError):
            for other in read_segment(self._directory / f"{name}.jsonl", kinds=("outcome",)):
                if isinstance(other, Entry) and str(other.body.get("id")) in wanted:
                    self._twice.add(str(other.body.get("id")))

    def left(self) -> list[Call]:
        """Those that have no outcome, and those whose intent was not among the records."""
        calls = [*self.open.values(), *(ended(None, entry) for entry in self._early.values())]
        return sorted(calls, key=lambda call: call.time)


def search(
    directory: str | Path, query: Query | None = None, progress: Progress = lambda _: None
) -> Iterator[Call]:
    """The calls that a query fits, in the order in which they ended; those that are open come last.

    Memory holds the calls that are open at the place where the reading is. ``progress`` is told bytes that were read.
    Raises ``OSError``.
    """
    query = query or Query()
    directory = Path(directory)
    joiner = Joiner(directory, query)
    last = written(query.until + _SLACK) if query.until is not None else None
    for entry in _merged(_since(directory, query.since), progress):
        call = joiner.take(entry)
        if call is not None and query.matches(call):
            yield call
        if last is not None and entry.time > last and not joiner.open:
            break
    yield from filter(query.matches, joiner.left())


def latest(directory: str | Path, most: int, query: Query | None = None) -> list[Call]:
    """The last calls that a query fits, at most so many, the last to end at the end; raises ``OSError``.

    Segments are read whole: who asks again and again keeps a ``Tail``.
    """
    query = query or Query()
    now = datetime.now(UTC)
    for window in _WINDOWS:
        since = now - window
        if query.since is not None and written(since) <= written(query.since):
            break
        narrow = msgspec.structs.replace(query, since=since)
        found = deque(search(directory, narrow), maxlen=most)
        if len(found) == most:
            return list(found)
    return list(deque(search(directory, query), maxlen=most))


def find(directory: str | Path, id_: str) -> Call | None:
    """The call of this id, or nothing; raises ``OSError``."""
    directory = Path(directory)
    joiner = Joiner(directory, Query())
    found = None
    for entry in _merged(_mentioning(directory, id_), lambda _: None):
        if entry.kind == "abandoned" or entry.body.get("id") == id_:
            found = joiner.take(entry) or found
    return found or next((call for call in joiner.left() if call.id == id_), None)


class Tail:
    """The calls of a directory as they end; each ``read()`` gives those that are new.

    Begins with all segments that were written to after ``since``. ``open`` are the calls in flight.
    """

    def __init__(
        self, directory: str | Path, query: Query | None = None, since: datetime | None = None
    ) -> None:
        self._directory, self._query, self._since = Path(directory), query or Query(), since
        self._joiner = Joiner(self._directory, self._query)
        self._read: dict[str, tuple[int, int]] = {}  # by segment: byte and line to go on from

    @property
    def open(self) -> list[Call]:
        """Those that have no outcome yet, as far as was read."""
        return list(filter(self._query.matches, self._joiner.open.values()))

    def read(self) -> Iterator[Call]:
        """What ended since the last time; raises ``OSError``."""
        grown = [path for path in _since(self._directory, self._since) if self._has_grown(path)]
        for entry in _merge((path, self._rest(path)) for path in grown):
            call = self._joiner.take(entry)
            if call is not None and self._query.matches(call):
                yield call

    def _has_grown(self, path: Path) -> bool:
        try:
            return path.stat().st_size > self._read.get(path.stem, (0, 1))[0]
        except FileNotFoundError:
            self._read.pop(path.stem, None)
            return False

    def _rest(self, path: Path) -> Iterator[Entry]:
        start, line = self._read.get(path.stem, (0, 1))
        with contextlib.suppress(FileNotFoundError):
            for entry in read_segment(path, start, line, kinds=_KINDS):
                if isinstance(entry, Entry):
                    yield entry
                    # Only now: a line that is cut now may be whole the next time.
                    self._read[path.stem] = entry.end, entry.line


def follow(
    directory: str | Path,
    query: Query | None = None,
    *,
    since: datetime | None = None,
    wait: Callable[[], object] = lambda: time.sleep(0.5),
) -> Iterator[Call]:
    """Calls as they end, for ever; ``wait`` is called between two looks. Raises ``OSError``."""
    tail = Tail(directory, query, since)
    while True:
        yield from tail.read()
        wait()


def _since(directory: Path, since: datetime | None) -> list[Path]:
    """The segments that can hold what happened after that."""
    found = segments(directory)
    if since is None:
        return found
    first = datetime.fromisoformat(written(since)).timestamp()
    return [path for path in found if _written_last(path) >= first]


def _written_last(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # pruned meanwhile
        return 0.0


def _mentioning(directory: Path, id_: str) -> Iterator[Path]:
    """The segments in whose text an id stands."""
    needle = json.dumps(id_).encode()
    return (path for path in segments(directory) if _holds(path, needle))


def _holds(path: Path, needle: bytes) -> bool:
    before = b""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if needle in before + chunk:
                return True
            before = chunk[-len(needle) :]
    return False


def _merged(paths: Iterable[Path], progress: Progress) -> Iterator[Entry]:
    return _merge((path, _entries(path, progress)) for path in paths)


def _merge(found: Iterable[tuple[Path, Iterator[Entry]]]) -> Iterator[Entry]:
    """The records of segments, given in the order of their beginning, in the order of time.

    A segment is opened when its time has come, so no more are open than processes wrote at the same time.
    """
    waiting = deque((_first_time(path), entries) for path, entries in found)
    heap: list[tuple[str, int, Entry, Iterator[Entry]]] = []
    number = 0
    while heap or waiting:
        while waiting and (not heap or waiting[0][0] <= heap[0][0]):
            _, entries = waiting.popleft()
            number += 1
            first = next(entries, None)
            if first is not None:
                heapq.heappush(heap, (first.time, number, first, entries))
        if heap:
            key, of, entry, entries = heap[0]
            yield entry
            following = next(entries, None)
            if following is None:
                heapq.heappop(heap)
            else:
                # Within a segment the order is that of the file, whatever the clock did.
                heapq.heapreplace(heap, (max(key, following.time), of, following, entries))


def _first_time(path: Path) -> str:
    return written(segment_begun(path.stem))


def _entries(path: Path, progress: Progress) -> Iterator[Entry]:
    told = 0
    with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
        for entry in read_segment(path, kinds=_KINDS):
            if entry.end - told > _CHUNK:
                progress(entry.end - told)
                told = entry.end
            if isinstance(entry, Entry):
                yield entry
        progress(path.stat().st_size - told)
