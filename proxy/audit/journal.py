"""Group commit: threads append to one segment, and one of them writes and syncs for all who wait.

An error ends the segment: those who wait get a fault, and what comes after goes to another one.

Two locks, always taken in this order: ``_writer`` is held by whoever writes and syncs, ``_lock`` by whoever appends.
Appending gives a line its place in the chain; nobody waits for the disk to do that.
"""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from proxy.audit.batch import MOST_WAITING, Batch, Item
from proxy.audit.encode import encode
from proxy.audit.faults import AuditFault
from proxy.audit.segment import Mark, Segment

log: Final = logging.getLogger("outgate.audit")

#: Seconds between two attempts to begin a segment, so that a full disk is not hammered.
_PAUSE: Final = 0.1
#: Seconds until a rotation that failed is tried again.
_ROTATION_PAUSE: Final = 10.0
#: Seconds between two lines about faults in the log.
_QUIET: Final = 60.0


class Journal:
    """The segments of one process, one after the other. Thread-safe; of no use after a fork."""

    def __init__(
        self, directory: Path, seal_to: X25519PublicKey | None, policy: str, segment_bytes: int
    ) -> None:
        self.faults = 0
        self.dropped = 0
        #: Why nothing can be recorded at the moment, in words; ``None`` when it can.
        self.obstacle: str | None = None
        self._directory, self._seal_to, self._policy = directory, seal_to, policy
        self._segment_bytes = segment_bytes
        self._writer, self._lock = threading.Lock(), threading.Lock()
        self._segment: Segment | None = None
        self._batch = Batch()
        self._unsynced: list[Item] = []
        self._unsynced_since: float | None = None
        self._open: dict[str, Mark] = {}  # the intents without outcome, and where they stand
        self._bad: tuple[Segment, dict[str, Any]] | None = None
        self._again: list[Item] = []
        self._not_before = self._rotate_after = self._quiet_until = 0.0
        self._closed = False

    def record(self, kind: str, body: Mapping[str, Any], id_: str | None = None) -> None:
        """Append a line and return when it is durable; raises ``AuditFault`` when it may not be."""
        self._record([Item(kind, encode(body), id_)])

    def record_all(self, kind: str, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Several lines that become durable together, or some of them and an ``AuditFault``."""
        self._record([Item(kind, encode(body), None) for body in bodies])

    def _record(self, items: list[Item]) -> None:
        with self._lock:
            self._writable()
            for item in items:
                batch = self._append(item)
            gate = batch.join()
        if gate is not None:
            gate.acquire()
        else:
            with self._writer:
                if not batch.done:
                    self._put(sync=True)
            self._flush()
        if batch.fault is not None:
            raise AuditFault(batch.fault)

    def note(self, kind: str, body: Mapping[str, Any], id_: str | None = None) -> None:
        """Append a line and return; it is written at once and durable with the next ``record`` or ``sync``.
        While nothing can be written it waits in memory.
        """
        item = Item(kind, encode(body), id_)
        with self._lock:
            if id_ is not None:
                item.where = self._open.pop(id_, None)
            try:
                self._append(item)
            except AuditFault:
                self._keep([item])
        self._flush()

    def sync(self) -> None:
        """Make durable what is not; never raises, a fault is counted and stands in ``obstacle``."""
        with self._writer:
            if self._batch.lines or self._unsynced:
                self._put(sync=True)

    def try_again(self) -> None:
        """Begin a segment if there is none; never raises. A segment that was moved away is given up first."""
        with self._writer:
            segment = self._segment
            if segment is not None and segment.displaced():
                self._put(sync=True)
                if self._segment is segment:
                    moved = OSError(errno.ESTALE, "the segment was moved or removed")
                    self._abandon(segment, Batch(), moved)
            with self._lock, contextlib.suppress(AuditFault):
                self._writable()

    def lag(self) -> float:
        """Seconds since the oldest line was appended that is not durable yet."""
        since = self._unsynced_since or self._batch.born
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    def close(self) -> None:
        """Make everything durable and let go of the segment.

        While calls are open the segment is not marked as closed, so that recovery answers for them.
        """
        self.sync()
        with self._writer, self._lock:
            self._closed, segment, self._segment = True, self._segment, None
            if segment is not None:
                with contextlib.suppress(OSError):
                    if not self._open:
                        segment.write(segment.line("closed", b"{}"))
                        segment.sync(segment.mark())
                segment.release()
            self._release_bad()

    def forget(self) -> None:
        """In a child after a fork: let go of the parent's files and keys, and write nothing."""
        for segment in (self._segment, self._bad[0] if self._bad else None):
            if segment is not None:
                segment.forget()

    # -- appending: ``_lock`` is held -----------------------------------------------------------

    def _append(self, item: Item) -> Batch:
        segment = self._writable()
        batch = self._batch
        if item.kind == "intent" and item.id is not None:
            self._open[item.id] = (segment.seq, segment.name)
        batch.lines.append(segment.line(item.kind, item.body))
        batch.items.append(item)
        if batch.born is None:
            batch.born = time.monotonic()
        return batch

    def _writable(self) -> Segment:
        if self._segment is not None:
            return self._segment
        if self._closed:
            raise AuditFault("the audit trail was closed")
        if self.obstacle is not None and time.monotonic() < self._not_before:
            raise AuditFault(self.obstacle)
        try:
            self._segment = segment = self._begin(self._bad[0] if self._bad else None)
        except OSError as error:
            self._not_before = time.monotonic() + _PAUSE
            raise AuditFault(self._trouble(error)) from None
        self._take_over()
        self.obstacle = None
        return segment

    def _begin(self, previous: Segment | None) -> Segment:
        carried = [[id_, name, seq] for id_, (seq, name) in self._open.items()]
        carried += [[item.id, item.where[1], item.where[0]] for item in self._again if item.where]
        fields: dict[str, Any] = {"policy": self._policy, "carried": carried, "previous": None}
        if previous is not None:
            seq, mac = previous.durable
            fields["previous"] = {"segment": previous.name, "seq": seq, "mac": mac}
        return Segment.create(self._directory, self._seal_to, fields)

    def _take_over(self) -> None:
        """Say in the new segment what became of the one before, and write again what that may have lost."""
        again, self._again = self._again, []
        if self._bad is not None:
            self._append(Item("abandoned", encode(self._bad[1]), None))
        for item in again:
            self._append(item)
        self._release_bad()

    def _release_bad(self) -> None:
        """Only now: while its lock is held, nobody takes the calls that were recorded in it for dead."""
        if self._bad is not None:
            self._bad[0].release()
            self._bad = None

    def _keep(self, items: list[Item]) -> None:
        self._again += items
        over = len(self._again) - MOST_WAITING
        if over > 0:
            self.dropped += over
            del self._again[:over]

    def _trouble(self, error: OSError) -> str:
        self.faults += 1
        text = f"the audit trail in {self._directory} takes no records: {error.strerror}"
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET
            log.error("audit: %s; faults so far: %d", text, self.faults)
        self.obstacle = text
        return text

    # -- writing: ``_writer`` is held -----------------------------------------------------------

    def _flush(self) -> None:
        """Write what nobody waits for, unless somebody writes already and will look again after that."""
        while self._left_over() and self._writer.acquire(blocking=False):
            try:
                if self._left_over():
                    self._put(sync=False)
            finally:
                self._writer.release()

    def _left_over(self) -> bool:
        batch = self._batch
        return bool(batch.lines) and not batch.waiters

    def _put(self, *, sync: bool) -> None:
        with self._lock:
            batch, self._batch = self._batch, Batch()
            segment = self._segment
            if segment is None:
                return
            mark = segment.mark()
            if self._unsynced_since is None:
                self._unsynced_since = batch.born
            # Between the look and the lock somebody may have begun to wait.
            sync = sync or batch.waiters > 0
        try:
            if batch.lines:
                segment.write(b"".join(batch.lines))
            if sync:
                segment.sync(mark)
        except OSError as error:
            self._abandon(segment, batch, error)
        except BaseException:  # a signal: those who wait must not wait for ever
            self._abandon(segment, batch, OSError(errno.EINTR, "writing was interrupted"))
            raise
        else:
            self._written(segment, batch, sync)

    def _written(self, segment: Segment, batch: Batch, sync: bool) -> None:
        batch.finish()
        if not sync:
            self._unsynced += batch.items
            return
        self._unsynced, self._unsynced_since = [], None
        if segment.is_due(self._segment_bytes) and time.monotonic() >= self._rotate_after:
            self._rotate(segment)

    def _abandon(self, segment: Segment, batch: Batch, error: OSError) -> None:
        """Give a segment up: who waits gets a fault, outcomes are written again to the next segment."""
        with self._lock:
            fault = self._trouble(error)
            late, self._batch = self._batch, Batch()
            lost = [*self._unsynced, *batch.items, *late.items]
            refused = [item.id for item in lost if item.kind == "intent" and item.id is not None]
            for id_ in refused:
                self._open.pop(id_, None)
            self._keep([item for item in lost if item.kind == "outcome"])
            why = {"segment": segment.name, "error": error.strerror, "refused": refused}
            again = [item.id for item in lost if item.kind == "outcome"]
            self._segment, self._bad = None, (segment, {**why, "again": again})
            self._unsynced, self._unsynced_since = [], None
            for each in (batch, late):
                each.finish(fault)

    def _rotate(self, old: Segment) -> None:
        """Go on in a new segment; nobody appends meanwhile."""
        with self._lock:
            batch, self._batch = self._batch, Batch()
            try:
                old.write(b"".join(batch.lines))
                old.sync(old.mark())
            except OSError as error:
                failed = error
            else:
                batch.finish()
                self._next(old)
                return
        self._abandon(old, batch, failed)

    def _next(self, old: Segment) -> None:
        try:
            self._segment = segment = self._begin(old)
        except OSError:
            self._rotate_after = time.monotonic() + _ROTATION_PAUSE
            return
        # The old one has its successor: whether this line arrives decides nothing.
        with contextlib.suppress(OSError):
            old.write(old.line("closed", encode({"next": segment.name})))
            old.sync(old.mark())
        old.release()
