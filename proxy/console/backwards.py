"""The trail from its end: the newest record of all segments first, read no further than somebody looks."""

import contextlib
import heapq
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from proxy.audit.records import LONGEST_LINE, SUFFIX, Entry, parse, segments

_BLOCK: Final = 1 << 18
_TIME: Final = re.compile(rb'"time":"([^"]*)"')
#: What is read of the trail for one page, in bytes.
MOST: Final = 32 << 20
#: A record, and when it was written, in seconds since 1970.
Timed: TypeAlias = tuple[float, Entry]


class Budget:
    """How many bytes may still be read; ``spent`` when there were more."""

    def __init__(self, most: int = MOST) -> None:
        self.left = most
        self.spent = False

    def take(self, size: int) -> bool:
        """Whether ``size`` more bytes may be read; they are counted."""
        if size > self.left:
            self.spent = True
            return False
        self.left -= size
        return True


def sizes(directory: str | Path) -> dict[Path, int]:
    """The segments and how far they are written at this moment; raises ``OSError``."""
    found = {}
    for path in segments(directory):
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:  # pruned meanwhile
            continue
    return found


def newest_first(
    ends: Mapping[Path, int], kinds: Iterable[str], budget: Budget, before: float | None = None
) -> Iterator[Timed]:
    """Records of ``kinds`` in the segments up to ``ends``, the last written first. Raises ``OSError``.

    With ``before``, only what was written until then.
    """
    wanted = tuple(f'"kind":"{kind}",'.encode() for kind in kinds)
    several = [_lines(path, end, wanted, budget, before) for path, end in ends.items()]
    merged = heapq.merge(*several, key=itemgetter(0), reverse=True)
    return (found for found in merged if before is None or found[0] <= before)


def _lines(
    path: Path, end: int, wanted: tuple[bytes, ...], budget: Budget, before: float | None
) -> Iterator[Timed]:
    name = path.name.removesuffix(SUFFIX)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        if before is not None:
            end = _until(file, end, before)
        for raw in _backwards(file, end, budget):
            # The kind stands in the first bytes of a line; a body that says the same is further behind.
            if any(mark in raw[:128] for mark in wanted) and (found := read(name, raw)) is not None:
                yield found


def _until(file: BinaryIO, end: int, before: float) -> int:
    """A place in a segment behind all that was written until ``before``, and not far behind it."""
    low, high = 0, end
    while high - low > _BLOCK:
        middle = (low + high) // 2
        at = _time_at(file, middle)
        low, high = (middle, high) if at is None or at <= before else (low, middle)
    return min(end, high + _BLOCK)


def _time_at(file: BinaryIO, place: int) -> float | None:
    """When the first record behind ``place`` was written, if one is near."""
    for raw in os.pread(file.fileno(), _BLOCK, place).split(b"\n")[1:2]:
        found = _TIME.search(raw[:128])
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(found[1].decode()).timestamp() if found else None
    return None


def last_line(path: Path, end: int) -> int:
    """Where the last line before ``end`` begins, which may be half written; raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        begin = end
        while begin > 0:
            begin, until = max(0, begin - _BLOCK), begin
            at = os.pread(file.fileno(), until - begin, begin).rfind(b"\n")
            if at >= 0:
                return begin + at
    return 0


def _backwards(file: BinaryIO, end: int, budget: Budget) -> Iterator[bytes]:
    """The lines before ``end``, the last one first; what is longer than a record may be is left out."""
    rest: list[bytes] = []  # of a line whose beginning was not read yet, the last piece first
    held = 0
    while end > 0 and budget.take(min(_BLOCK, end)):
        begin = max(0, end - _BLOCK)
        block = os.pread(file.fileno(), end - begin, begin)
        end = begin
        head, *lines = block.split(b"\n")
        if lines:
            yield b"".join([lines.pop(), *reversed(rest)])
            yield from reversed(lines)
            rest, held = [], 0
        held += len(head)
        rest = [*rest, head] if held <= LONGEST_LINE else []
    if end == 0:
        yield b"".join(reversed(rest))


def read(segment: str, raw: bytes) -> Timed | None:
    """A line of a segment, if it is a record; where it stands is known by its number only."""
    try:
        found, signed = parse(raw)
    except ValueError:
        return None
    entry = Entry(
        segment=segment,
        line=0,
        start=0,
        end=0,
        seq=found.seq,
        time=found.time,
        mono=found.mono,
        kind=found.kind,
        body=found.body,
        mac=found.mac,
        signed=signed,
    )
    return timed(entry)


def timed(entry: Entry) -> Timed | None:
    """A record with its time, if that is one."""
    try:
        return datetime.fromisoformat(entry.time).timestamp(), entry
    except (ValueError, OverflowError):
        return None
