"""Whether an audit directory is as it was written: the first record that is not, and what was done to it.

Nothing is held in memory but the checkpoints and the calls that are open at the place where the reading is.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from proxy.audit.inspection import Inspection
from proxy.audit.ledger import Ledger, Problem, What, read_ledger
from proxy.audit.records import CHECKPOINTS, SUFFIX, Entry, begun, is_name, segments

__all__ = ["Problem", "Report", "verify"]

#: How long before a checkpoint a segment must have begun to be missed in it.
_SLACK: Final = timedelta(seconds=60)


class Report(Struct, frozen=True, kw_only=True):
    """What was read and what is wrong.

    ``unanswered`` intents have no outcome: in flight, or not yet recovered. ``unchecked`` segments are those whose
    macs could not be checked without a private key, ``unsealed`` those whose macs this machine could have made anew,
    ``cut`` those that end in a write that was cut, as a kill or a full disk leaves them.
    """

    problems: tuple[Problem, ...]
    segments: int = 0
    records: int = 0
    intents: int = 0
    outcomes: int = 0
    recovered: int = 0
    unanswered: int = 0
    checkpoints: int = 0
    unchecked: int = 0
    unsealed: int = 0
    cut: int = 0

    @property
    def first(self) -> Problem | None:
        """The first bad record, in the order of segments and records; the checkpoint log comes last."""
        return self.problems[0] if self.problems else None


class _Reference(Struct, frozen=True):
    """One segment's word on another: it went on to this record at least, or ended with it."""

    segment: str
    seq: int
    mac: str
    is_end: bool
    said_by: str


class _Reading:
    """What is gathered on the way through all segments."""

    def __init__(self) -> None:
        self.counts = {"intent": 0, "outcome": 0, "recovered": 0}
        self.open: dict[str, tuple[str, int]] = {}
        self.references: list[_Reference] = []
        self.checkpointed: list[tuple[str, Entry]] = []
        self._answered_early: set[str] = set()

    @property
    def newest(self) -> int:
        """The highest number of a checkpoint that a record speaks of."""
        numbers = (entry.body.get("number") for _, entry in self.checkpointed)
        return max((number for number in numbers if isinstance(number, int)), default=0)

    def visit(self, entry: Entry) -> None:
        """Note what a record says of calls, of other segments and of checkpoints."""
        if entry.kind in self.counts:
            self.counts[entry.kind] += 1
        match entry.kind:
            case "header":
                self._refer(entry, entry.body.get("previous"), is_end=False)
            case "closed_for":
                self._refer(entry, entry.body, is_end=True)
            case "checkpointed":
                self.checkpointed.append((entry.segment, entry))
            case "abandoned":
                refused = entry.body.get("refused")
                for id_ in refused if isinstance(refused, list) else ():
                    self.open.pop(str(id_), None)
            case "intent" | "outcome" | "recovered":
                self._call(entry, str(entry.body.get("id")))

    def _refer(self, entry: Entry, found: object, *, is_end: bool) -> None:
        if isinstance(found, dict) and isinstance(found.get("seq"), int):
            name, mac = str(found.get("segment")), str(found.get("mac"))
            self.references.append(_Reference(name, found["seq"], mac, is_end, entry.segment))

    def _call(self, entry: Entry, id_: str) -> None:
        if entry.kind == "intent":
            # Who recovers may have begun its segment before the dead one did.
            if id_ in self._answered_early:
                self._answered_early.discard(id_)
            else:
                self.open[id_] = (entry.segment, entry.seq)
        elif self.open.pop(id_, None) is None and entry.kind == "recovered":
            self._answered_early.add(id_)


def verify(
    directory: str | Path,
    *,
    private: Sequence[X25519PrivateKey] = (),
    signing: Ed25519PublicKey | None = None,
    exported: Iterable[str | Path] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Read everything once and report; may run while the proxy writes.

    ``private`` opens the start keys (several after a change of keys), ``signing`` checks checkpoints, ``exported`` are
    files that checkpoints were exported to. ``progress`` is told the bytes of every segment that was read. Raises
    ``OSError`` if something cannot be read.
    """
    directory, others = Path(directory), [Path(path) for path in exported]
    ledger = read_ledger(directory, others, signing)
    reading = _Reading()
    seen: dict[str, Inspection] = {}
    problems: list[Problem] = []
    for path in segments(directory):
        inspection = Inspection(path, ledger.anchors(path.stem), private)
        try:
            problem = inspection.run(reading.visit) or _unknown(inspection, ledger)
        except FileNotFoundError:  # pruned meanwhile: the entry that says so is looked for below
            continue
        seen[path.stem] = inspection
        if problem is not None:
            problems.append(problem)
        progress(inspection.end)
    if reading.checkpointed or len(seen) != len(segments(directory)):
        ledger = read_ledger(
            directory, others, signing
        )  # what was added while the segments were read
    problems += _absent(directory, seen, ledger)
    problems += _contradicted(reading, seen, ledger, {problem.segment for problem in problems})
    problems.sort(key=lambda problem: (problem.segment, problem.seq or 0))
    return _report([*problems, *_log_problems(reading, ledger)], reading, seen, ledger)


def _unknown(inspection: Inspection, ledger: Ledger) -> Problem | None:
    """A segment that was there before the last checkpoint, which does not know it."""
    if ledger.last is None or ledger.names(inspection.name):
        return None
    if begun(inspection.name) > ledger.last - _SLACK:
        return None
    return _problem(
        "foreign", inspection.name, None, "no checkpoint knows it, though later ones exist"
    )


def _absent(directory: Path, seen: dict[str, Inspection], ledger: Ledger) -> list[Problem]:
    return [
        _problem("missing", name, 0, "a checkpoint knows this segment, and it was not pruned")
        for name in ledger.segments
        if name not in seen and name not in ledger.pruned and not _is_there(directory, name)
    ]


def _contradicted(
    reading: _Reading, seen: dict[str, Inspection], ledger: Ledger, bad: set[str]
) -> list[Problem]:
    """What segments say of each other and is not so; a segment that is known to be bad is not named again."""
    found = []
    for said in reading.references:
        there = seen.get(said.segment)
        if said.segment in bad or said.segment in ledger.pruned:
            continue
        if there is None:
            if is_name(said.segment):
                detail = f"segment {said.said_by} names it, and it was not pruned"
                found.append(_problem("missing", said.segment, 0, detail))
        elif there.seq < said.seq:
            detail = (
                f"segment {said.said_by} knows {said.seq + 1} records, here are {there.seq + 1}"
            )
            found.append(_problem("truncated", said.segment, there.seq + 1, detail))
        elif said.is_end and there.seq > said.seq:
            detail = f"segment {said.said_by} says that record {said.seq} was the last"
            found.append(_problem("added", said.segment, said.seq + 1, detail))
        elif there.seq == said.seq and there.mac != said.mac:
            detail = f"segment {said.said_by} knows another record of this number"
            found.append(_problem("re-sealed", said.segment, said.seq, detail))
    return found


def _log_problems(reading: _Reading, ledger: Ledger) -> list[Problem]:
    problems = list(ledger.problems)
    if problems:
        return problems
    for segment, entry in reading.checkpointed:
        number, digest = entry.body.get("number"), entry.body.get("digest")
        if not isinstance(number, int) or ledger.digests.get(number) == digest:
            continue
        what: What = "edited" if number in ledger.digests else "truncated"
        detail = f"record {entry.seq} of segment {segment} knows another one"
        if what == "truncated":
            detail = f"record {entry.seq} of segment {segment} knows this checkpoint, and it is not there"
        problems.append(_problem(what, CHECKPOINTS, number, detail))
        break
    return problems


def _problem(what: What, segment: str, seq: int | None, detail: str) -> Problem:
    return Problem(what=what, segment=segment, seq=seq, line=None, detail=detail)


def _is_there(directory: Path, name: str) -> bool:
    return (directory / f"{name}{SUFFIX}").exists()


def _report(
    problems: Iterable[Problem], reading: _Reading, seen: dict[str, Inspection], ledger: Ledger
) -> Report:
    every = seen.values()
    return Report(
        problems=tuple(problems),
        segments=len(seen),
        records=sum(each.records for each in every),
        intents=reading.counts["intent"],
        outcomes=reading.counts["outcome"],
        recovered=reading.counts["recovered"],
        unanswered=len(reading.open),
        checkpoints=len(ledger.digests),
        unchecked=sum(not each.checked for each in every),
        unsealed=sum(not each.sealed for each in every),
        cut=sum(each.cut for each in every),
    )
