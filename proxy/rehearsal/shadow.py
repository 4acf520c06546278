"""Judges live calls once more, by another configuration and without effect, behind the backs of their callers."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.exchange import Exchange
from proxy.mask import Vault
from proxy.model import Call
from proxy.reading import peek
from proxy.records import Record
from proxy.rehearsal.decision import Decision, Judged, clipped, denied, differences, judged
from proxy.rehearsal.judging import Judge, counted, fingerprint
from proxy.rehearsal.loading import Candidate
from proxy.rehearsal.report import Disagreement, Report, named
from proxy.rehearsal.table import ShadowTable
from proxy.rehearsal.witness import Witness

log: Final = logging.getLogger("outgate.shadow")
#: Which calls are seen does not follow from a seed that a program may share.
_chance: Final = random.SystemRandom()
#: Bytes of bodies and replies that may wait in one process.
_MOST_BYTES: Final = 32 * 1024 * 1024
_LOG_EVERY: Final = 60.0
#: Seconds until the first of several calls is judged: by then its answer is with the caller.
_LINGER: Final = 0.05
#: Seconds for what waits when the process ends.
_AT_EXIT: Final = 1.0


class _Seen(Struct, frozen=True):
    """What waits to be judged: a call that is over."""

    asked: Call
    witness: Witness
    record: Record
    vault: Vault | None
    size: int


class Shadow:
    """One thread that judges calls that are over; what finds no room is dropped and counted, and nobody waits for it.

    Raises ``ConfigError`` if the report cannot be written.
    """

    def __init__(self, table: ShadowTable, candidate: Candidate, digest: str) -> None:
        self._table, self._digest = table, digest
        self._judge = Judge(candidate)
        self._report = Report(table)
        self._changed = threading.Condition()
        self._items: deque[_Seen] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._busy = self._closed = self._hurried = False
        self._said = -_LOG_EVERY
        self._counts = dict.fromkeys(("calls", "disagreements", "errors", "dropped"), 0)

    def witness(self) -> Witness | None:
        """What a new call is to be watched with, if it is one of those that are judged."""
        share = self._table.share
        return Witness() if share >= 1 or _chance.random() < share else None

    def offer(self, exchange: Exchange, record: Record) -> None:
        """Have a call judged that is over; never waits and never raises."""
        witness = exchange.witness
        if witness is None or witness.asked is None or self._is_none_of_ours(record):
            return
        size = record.bytes_in + len(witness.reply or b"") + len(witness.shown or b"")
        seen = _Seen(witness.asked, witness, record, exchange.vault, size)
        with self._changed:
            full = len(self._items) >= self._table.waiting or self._bytes + size > _MOST_BYTES
            if full or self._closed:
                self._counts["dropped"] += 1
                return
            self._items.append(seen)
            self._bytes += size
            self._start()
            if len(self._items) == 1:
                self._changed.notify_all()

    def vitals(self) -> dict[str, float]:
        """What this process judged so far."""
        return {f"shadow_{name}": float(count) for name, count in self._counts.items()}

    def close(self, seconds: float = _AT_EXIT) -> None:
        """Judge what can be judged in ``seconds``; the rest is dropped."""
        self.flush(seconds)
        with self._changed:
            self._closed = True
            self._counts["dropped"] += len(self._items)
            self._items.clear()
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits any more; whether that was so within ``seconds``."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not (self._items or self._busy), seconds)

    def _is_none_of_ours(self, record: Record) -> bool:
        """Whether a plugin refused that no shadow runs: what the others would say is not known of both."""
        return record.denied_by in self._judge.candidate.left_out

    def _start(self) -> None:
        # Not before the first call: threads do not survive the fork that makes a worker.
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="outgate-shadow", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (seen := self._next()) is not None:
            began = time.perf_counter()
            try:
                self._compare(seen)
            # Whatever it is: it is not the caller's, and the next call may be judged all the same.
            except Exception as error:  # noqa: BLE001
                self._failed(seen, error)
            finally:
                with self._changed:
                    self._counts["calls"] += 1
                    self._busy = False
                    self._changed.notify_all()
                    # As long as it judged it leaves the interpreter to the callers.
                    pause = min(time.perf_counter() - began, _LINGER)
                    self._changed.wait_for(lambda: self._closed or self._hurried, pause)

    def _next(self) -> _Seen | None:
        with self._changed:
            if not self._items:
                self._changed.wait_for(lambda: self._items or self._closed)
                # Nobody is woken for each call: while it waits for company, the thread costs nothing.
                self._changed.wait_for(lambda: self._closed or self._hurried, _LINGER)
            if self._closed:
                return None
            seen = self._items.popleft()
            self._bytes -= seen.size
            self._busy = True
            return seen

    def _compare(self, seen: _Seen) -> None:
        judgement = self._judge.request(seen.asked)
        witness = seen.witness
        if witness.accepted is not None and witness.reply is not None:
            # The reply answers what the live chain sent, with its masks in it.
            judgement = self._judge.reply(judgement, witness.status, witness.reply, seen.vault)
        live, other = _live(seen), judged(judgement)
        differs = differences(live, other)
        if not differs:
            return
        told = (*judgement.findings, *judgement.reply_findings)
        hidden = any(finding.place == "model" for finding in told)
        found = Disagreement(
            time=seen.record.time,
            id=seen.record.id,
            endpoint=seen.record.endpoint,
            differs=differs,
            live=live.decision,
            shadow=other.decision,
            principal=named(seen.record.principal),
            model=None if hidden else named(seen.record.model),
            policy=self._digest[:16],
            shadow_policy=self._judge.candidate.parts.digest[:16],
        )
        self._counts["disagreements"] += 1
        if not self._report.append(found):
            self._say("shadow.report is full: further disagreements are counted only")

    def _failed(self, seen: _Seen, error: Exception) -> None:
        self._counts["errors"] += 1
        self._say(f"{seen.record.id}: the shadow could not judge it: {type(error).__name__}")

    def _say(self, what: str) -> None:
        """One line a minute: otherwise there would be one for each call."""
        now = time.monotonic()
        if now - self._said >= _LOG_EVERY:
            self._said = now
            log.warning("%s (%d errors so far)", what, self._counts["errors"])


def _live(seen: _Seen) -> Judged:
    """What the live chain decided, as far as a rehearsal can decide it, too."""
    witness, record = seen.witness, seen.record
    found = counted(record.findings[: witness.found])
    if witness.accepted is None:
        return Judged(decision=denied(record.denied_by, record.code, counted(record.findings)))
    body = fingerprint(_unmetered(witness, seen.asked), seen.vault)
    if witness.reply is None:
        return Judged(decision=Decision(verdict="allowed", findings=found), body=body)
    withheld = witness.shown is None
    decision = Decision(
        verdict="allowed",
        findings=found,
        reply="denied" if withheld else "shown",
        reply_by=record.denied_by if withheld else None,
        reply_code=clipped(record.code) if withheld else None,
    )
    shown = None if withheld else peek(witness.shown or b"")
    return Judged(decision=decision, body=body, shown=shown)


def _unmetered(witness: Witness, asked: Call) -> Mapping[str, Any]:
    """The body without what was asked on our own behalf, which no shadow asks for."""
    body = witness.accepted.body if witness.accepted is not None else {}
    if not witness.metered:
        return body
    kept = {name: value for name, value in body.items() if name != "stream_options"}
    own = asked.body.get("stream_options")
    return kept if own is None else {**kept, "stream_options": own}
