"""Checking one segment, record by record, against its chain of macs and the checkpoints that speak of it."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit.chain import Chain, commitment
from proxy.audit.checkpoint import Anchor
from proxy.audit.envelope import EnvelopeError, fingerprint, unseal
from proxy.audit.ledger import Problem, What
from proxy.audit.records import (
    KEY_SUFFIX,
    SUFFIX,
    VERSION,
    Broken,
    Entry,
    read_segment,
    signed_line,
)
from proxy.audit.segment import PURPOSE

Visit = Callable[[Entry], None]
#: How many keys ahead are tried to tell a record that was sealed anew from one that was edited.
_KEYS_AHEAD: Final = 200_000


class Inspection:
    """One segment. ``run`` gives the first problem; the rest is known after it."""

    def __init__(
        self, path: Path, anchors: Sequence[Anchor], private: Sequence[X25519PrivateKey]
    ) -> None:
        self.path, self.name = path, path.name.removesuffix(SUFFIX)
        self.seq, self.mac, self.end = -1, "", 0
        self.records = 0
        #: Whether the macs were checked, and whether anybody on the machine could have made them.
        self.checked = self.sealed = False
        self.cut = False
        self._closed = False
        self._anchors = deque(anchors)
        self._private = {fingerprint(key.public_key().public_bytes_raw()): key for key in private}
        self._chain: Chain | None = None
        self._digest = hashlib.sha256()
        self._anchored, self._final = -1, False

    def run(self, visit: Visit) -> Problem | None:
        """Read to the first problem; ``visit`` is told every record that is right. Raises ``OSError``."""
        for entry in read_segment(self.path):
            if isinstance(entry, Broken):
                problem = self._broken(entry)
                if problem is not None:
                    return problem
                continue
            problem = self._problem(entry)
            if problem is not None:
                return problem
            visit(entry)
        return self._ending()

    def _problem(self, entry: Entry) -> Problem | None:
        problem = self._out_of_place(entry)
        if problem is None and entry.seq == 0:
            problem = self._header(entry)
        problem = problem or self._unsealed(entry)
        if problem is not None:
            return problem
        self.seq, self.mac, self.end = entry.seq, entry.mac, entry.end
        self.records += 1
        self._closed = entry.kind == "closed"
        self._digest.update(signed_line(entry.signed, bytes.fromhex(entry.mac)))
        return self._against_anchors(entry)

    def _found(self, what: What, entry: Entry | Broken | None, detail: str) -> Problem:
        line = entry.line if entry is not None else None
        return Problem(what=what, segment=self.name, seq=self.seq + 1, line=line, detail=detail)

    def _broken(self, line: Broken) -> Problem | None:
        """The end of a write that was cut is no harm: nobody was told that it was on disk."""
        if line.last and self._closed:
            return self._found("added", line, f"record {self.seq} closed the segment")
        if line.last and not (self._anchors and self._anchors[0].bytes > self.end):
            self.cut = True
            return None
        return self._found("edited", line, f"this line is no record: {line.why}")

    def _out_of_place(self, entry: Entry) -> Problem | None:
        expected = self.seq + 1
        if self._closed:
            return self._found("added", entry, f"record {self.seq} closed the segment")
        if self._final:
            return self._found(
                "added", entry, f"a checkpoint says that record {self.seq} was the last"
            )
        if entry.seq == expected and entry.start == self.end + 1:
            return None
        if entry.seq == expected:
            return self._found("edited", entry, "there are bytes between this record and the last")
        if entry.seq < expected:
            return self._found("added", entry, f"record {entry.seq} is there a second time")
        if any(other.seq == expected for other in self._rest(entry)):
            detail = f"record {entry.seq} stands where {expected} is expected, which comes later"
            return self._found("reordered", entry, detail)
        gone = (
            f"records {expected} to {entry.seq - 1} are"
            if entry.seq > expected + 1
            else f"record {expected} is"
        )
        return self._found("deleted", entry, f"{gone} not there")

    def _rest(self, entry: Entry) -> Iterator[Entry]:
        for other in read_segment(self.path, entry.end, entry.line):
            if isinstance(other, Entry):
                yield other

    def _header(self, entry: Entry) -> Problem | None:
        body = entry.body
        if entry.kind != "header":
            return self._found("edited", entry, "a segment begins with its header")
        if body.get("segment") != self.name:
            return self._found("foreign", entry, f"this is segment {body.get('segment')}")
        if body.get("version") != VERSION:
            detail = f"version {body.get('version')!r} is unknown; this Outgate reads {VERSION}"
            return self._found("foreign", entry, detail)
        self.sealed = body.get("sealed") is not None
        try:
            key = self._start_key(body)
        except EnvelopeError as error:
            return self._found("foreign", entry, str(error))
        if key is not None and commitment(key) != body.get("key"):
            return self._found(
                "foreign", entry, "the key that comes with it belongs to another segment"
            )
        self._chain = Chain(key) if key is not None else None
        self.checked = key is not None
        return None

    def _start_key(self, body: dict[str, Any]) -> bytes | None:
        sealed = body.get("sealed")
        if sealed is None:
            try:
                return bytes.fromhex((self.path.parent / f"{self.name}{KEY_SUFFIX}").read_text())
            except (FileNotFoundError, ValueError):
                return None
        if not self._private:
            return None
        to = sealed.get("to") if isinstance(sealed, dict) else None
        if not isinstance(to, str) or to not in self._private:
            raise EnvelopeError(f"it is sealed to key {to}, which is none of those given")
        return unseal(sealed, self._private[to], purpose=PURPOSE, bound_to=self.name.encode())

    def _unsealed(self, entry: Entry) -> Problem | None:
        if self._chain is None or self._chain.check(entry.signed, entry.mac):
            return None
        ahead = self._chain.later_key(entry.signed, entry.mac, self._keys_ahead(entry))
        if ahead is not None:
            detail = (
                f"its mac was made with the key of record {entry.seq + ahead}: written anew later"
            )
            return self._found("re-sealed", entry, detail)
        return self._found("edited", entry, "its mac is not that of these bytes")

    def _keys_ahead(self, entry: Entry) -> int:
        """Somebody who rebuilt the end of a segment had a key at most as far on as it ever went."""
        last = max((anchor.seq for anchor in self._anchors), default=entry.seq)
        last = max(last, max((other.seq for other in self._rest(entry)), default=entry.seq))
        return min(_KEYS_AHEAD, last - entry.seq + 1000)

    def _against_anchors(self, entry: Entry) -> Problem | None:
        while self._anchors and self._anchors[0].bytes <= self.end:
            anchor = self._anchors.popleft()
            there = (self.end, self.seq, self.mac, self._digest.hexdigest())
            if (anchor.bytes, anchor.seq, anchor.mac, anchor.sha256) != there:
                return self._not_as_signed(entry, anchor)
            self._anchored = anchor.seq
            self._final = anchor.final
        return None

    def _not_as_signed(self, entry: Entry, anchor: Anchor) -> Problem:
        first = self._anchored + 1
        span = f"records {first} to {anchor.seq}"
        what: What = "re-sealed" if self.checked else "edited"
        detail = (
            f"{span} are not what a checkpoint says they were, though their macs are right"
            if self.checked
            else f"one of {span} is not what a checkpoint says it was"
        )
        line = entry.line - (entry.seq - first)
        return Problem(what=what, segment=self.name, seq=first, line=line, detail=detail)

    def _ending(self) -> Problem | None:
        if self._anchors:
            detail = (
                f"a checkpoint knows {self._anchors[-1].seq + 1} records, here are {self.seq + 1}"
            )
            return self._found("truncated", None, detail)
        if self.seq < 0:
            return self._found("truncated", None, "it is empty")
        return None
