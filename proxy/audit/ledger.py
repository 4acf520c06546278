"""What all checkpoints together say: read, checked, and kept small enough to hold years of them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from proxy.audit.checkpoint import NOTHING_BEFORE, Anchor, Stored, parse
from proxy.audit.checkpoint import read_checkpoints as read_log
from proxy.audit.records import CHECKPOINTS, LONGEST_LINE

What = Literal[
    "edited", "deleted", "reordered", "truncated", "added", "re-sealed", "foreign", "missing",
    "bad signature",
]  # fmt: skip
_BEGINNING: Final = b'{"number":'


class Problem(Struct, frozen=True, kw_only=True):
    """Something that is not as it was written: what, and the first record of it.

    ``segment`` is the name of a segment or of the checkpoint log, ``seq`` a record's or a checkpoint's number.
    """

    what: What
    segment: str
    seq: int | None
    line: int | None
    detail: str

    def __str__(self) -> str:
        place = "".join(
            f", {name} {value}"
            for name, value in (("record", self.seq), ("line", self.line))
            if value is not None
        )
        return f"{self.what}: {self.segment}{place}: {self.detail}"


class Ledger:
    """The anchors of every segment in order, what was pruned, and what is wrong with the log itself."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.pruned: set[str] = set()
        self.digests: dict[int, str] = {}
        self.last: datetime | None = None
        self._anchors: dict[str, list[Anchor]] = defaultdict(list)

    @property
    def segments(self) -> Iterable[str]:
        """Every segment that an entry names."""
        return self._anchors

    def anchors(self, segment: str) -> Sequence[Anchor]:
        """What is known of a segment, the shortest first."""
        return sorted(self._anchors.get(segment, ()), key=lambda anchor: anchor.bytes)

    def names(self, segment: str) -> bool:
        """Whether any entry names this segment."""
        return segment in self._anchors or segment in self.pruned

    def take(self, stored: Stored) -> None:
        """Count an entry in."""
        entry = stored.entry
        self.digests[entry.number] = stored.digest
        if entry.kind == "pruned":
            self.pruned.update(anchor.segment for anchor in entry.segments)
        else:
            for anchor in entry.segments:
                self._anchors[anchor.segment].append(anchor)
            at = datetime.fromisoformat(entry.time).astimezone(UTC)
            self.last = at if self.last is None else max(self.last, at)


def read_ledger(directory: Path, exported: Iterable[Path], key: Ed25519PublicKey | None) -> Ledger:
    """The log of a directory and what was exported of it; raises ``OSError`` for a file that cannot be read."""
    ledger = Ledger()
    path = directory / CHECKPOINTS
    if path.exists():
        _read_own(path, ledger, key)
    for other in exported:
        _compare(other, ledger, key)
    return ledger


def _read_own(path: Path, ledger: Ledger, key: Ed25519PublicKey | None) -> None:
    before: Stored | None = None
    for line, stored in read_log(path):
        # A line that was cut by a kill is harmless: the entry after it follows the one before it.
        if stored is None:
            continue
        problem = _wrong(stored, before, line) or _unsigned(stored, CHECKPOINTS, line, key)
        if problem is not None:
            ledger.problems.append(problem)
            if problem.what == "bad signature":
                continue
        ledger.take(stored)
        before = stored


def _wrong(stored: Stored, before: Stored | None, line: int) -> Problem | None:
    """What is wrong between an entry and the one before it."""
    expected = before.entry.number + 1 if before is not None else 1
    digest = before.digest if before is not None else NOTHING_BEFORE
    number = stored.entry.number

    def problem(what: What, detail: str) -> Problem:
        return Problem(what=what, segment=CHECKPOINTS, seq=expected, line=line, detail=detail)

    if number > expected:
        return problem("deleted", f"checkpoints {expected} to {number - 1} are not there")
    if number < expected:
        return problem("reordered", f"checkpoint {number} stands where {expected} is expected")
    if stored.entry.previous != digest:
        return problem("edited", "it does not follow from the checkpoint before it")
    return None


def _unsigned(stored: Stored, name: str, line: int, key: Ed25519PublicKey | None) -> Problem | None:
    if key is None or stored.is_signed_by(key):
        return None
    return Problem(
        what="bad signature",
        segment=name,
        seq=stored.entry.number,
        line=line,
        detail="this entry was not signed with the given key, or was changed after that",
    )


def _compare(path: Path, ledger: Ledger, key: Ed25519PublicKey | None) -> None:
    """What was exported must be in the log; where it is not, the exported entry counts."""
    for line, stored in _exported(path):
        problem = _unsigned(stored, path.name, line, key)
        if problem is not None:
            ledger.problems.append(problem)
            continue
        number = stored.entry.number
        known = ledger.digests.get(number)
        if known == stored.digest:
            continue
        what: What = "edited" if known is not None else "truncated"
        detail = f"the checkpoint that was exported to {path} is not the one in the log"
        if known is None:
            detail = f"the checkpoint was exported to {path}, and is not in the log"
        ledger.problems.append(
            Problem(what=what, segment=CHECKPOINTS, seq=number, line=None, detail=detail)
        )
        ledger.take(stored)


def _exported(path: Path) -> Iterator[tuple[int, Stored]]:
    """The entries in any text that holds one on a line, such as a syslog server's file."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            found = raw.find(_BEGINNING)
            stored = parse(raw[found:].rstrip()) if found >= 0 else None
            if stored is not None:
                yield number, stored
