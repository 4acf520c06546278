"""Answering for the dead: every intent that a process left without an outcome gets a ``recovered`` one, once.

Who recovers holds the lock of the directory (see ``overseer``). That nobody recovers twice, though recovery itself may
be killed, follows from what is on disk: a dead segment is done when it is closed, goes on in another one, or is named
by a ``closed_for``; and a call is done when a ``recovered`` names it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.audit.journal import Journal
from proxy.audit.records import Broken, Entry, read_segment

_TOGETHER: Final = 500


class Done(NamedTuple):
    """What was recovered before: whole segments, and single calls of segments as (segment, id)."""

    segments: set[str]
    calls: set[tuple[str, str]]


def done_before(paths: Iterable[Path]) -> Done:
    """What the ``recovered`` and ``closed_for`` records in these segments say; raises ``OSError``."""
    done = Done(set(), set())
    for path in paths:
        for entry in read_segment(path, kinds=("closed_for", "recovered")):
            if not isinstance(entry, Entry):
                continue
            if entry.kind == "closed_for":
                done.segments.add(str(entry.body.get("segment")))
            elif entry.kind == "recovered":
                done.calls.add((str(entry.body.get("found_in")), str(entry.body.get("id"))))
    return done


class Remains(NamedTuple):
    """What a dead process left in a segment: calls without outcome, by id, and the last whole record."""

    calls: dict[str, dict[str, Any]]
    last: Entry | None
    cut: bool


def remains(path: Path) -> Remains:
    """Read a dead segment; lines that are no records are left to ``verify``. Raises ``OSError``."""
    calls: dict[str, dict[str, Any]] = {}
    last, cut = None, False
    for entry in read_segment(path):
        if isinstance(entry, Broken):
            cut = entry.last
            continue
        last = entry
        if entry.kind == "header":
            calls.update(_carried(entry))
        elif entry.kind == "intent":
            calls[str(entry.body.get("id"))] = _place(entry.segment, entry.seq, entry.time)
        elif entry.kind == "outcome":
            calls.pop(str(entry.body.get("id")), None)
    return Remains(calls, last, cut)


def _carried(entry: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
    carried = entry.body.get("carried")
    for call in carried if isinstance(carried, list) else ():
        match call:
            case [str(id_), str(segment), int(seq)]:
                yield id_, _place(segment, seq, None)


def _place(segment: str, seq: int, time: str | None) -> dict[str, Any]:
    return {"segment": segment, "seq": seq, "time": time}


def recover(path: Path, name: str, done: Done, journal: Journal) -> int:
    """Write into our own segment what is missing for a dead one; returns how many calls that were.

    Raises ``OSError`` if it cannot be read, ``AuditFault`` if not all of it could be written.
    """
    left = remains(path)
    missing = [
        {"id": id_, "outcome": "recovered", "found_in": name, "intent": place}
        for id_, place in left.calls.items()
        if (name, id_) not in done.calls
    ]
    for begin in range(0, len(missing), _TOGETHER):
        journal.record_all("recovered", missing[begin : begin + _TOGETHER])
    seq, mac = (left.last.seq, left.last.mac) if left.last is not None else (-1, "")
    closing = {"segment": name, "seq": seq, "mac": mac, "cut": left.cut, "recovered": len(missing)}
    journal.record("closed_for", closing)
    return len(missing)
