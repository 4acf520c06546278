"""The audit trail as the proxy uses it: an intent before the first byte leaves, an outcome after the last."""

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proxy.audit import keys
from proxy.audit.checkpoint import CheckpointLog
from proxy.audit.export import Exporters
from proxy.audit.faults import AuditFault
from proxy.audit.journal import Journal
from proxy.audit.overseer import Overseer
from proxy.audit.table import AuditTable, check
from proxy.errors import ConfigError

log: Final = logging.getLogger("outgate.audit")

#: Seconds between two looks at what is not durable yet.
_BEAT: Final = 0.5
_OTHERS_WRITE: Final = 0o022


class Trail:
    """One for each configuration; every process that uses it has segments of its own.

    Made before a fork or after one: files are opened by the first process that records or says ``start()``.
    Raises ``ConfigError`` if the directory or a key cannot be used.
    """

    def __init__(self, table: AuditTable, policy_digest: str, where: str = "audit") -> None:
        check(table, where)
        self._table, self._policy = table, policy_digest
        self._seal_to = (
            keys.sealing_public(table.seal_to, f"{where}.seal_to") if table.seal_to else None
        )
        self._signer = (
            keys.signing_private(table.sign_with, f"{where}.sign_with") if table.sign_with else None
        )
        self._directory = _prepared(table.directory, f"{where}.directory")
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._closed = False
        _trails.add(self)

    @property
    def required(self) -> bool:
        """Whether a call whose intent cannot be recorded is refused."""
        return self._table.mode == "required"

    @property
    def notices(self) -> tuple[str, ...]:
        """What the operator should know at start."""
        unsealed = (
            "audit: no seal_to: the keys of the chain lie beside the records, so whoever can write in"
            f" {self._directory} can change old records unseen, unless checkpoints were exported."
            " Make keys with: outgate audit init DIRECTORY"
        )
        unsigned = (
            "audit: no sign_with: checkpoints are not signed, so they prove nothing once they are on"
            " this machine only. Make keys with: outgate audit init DIRECTORY"
        )
        return tuple(
            text
            for text, missing in (
                (unsealed, self._seal_to is None),
                (unsigned, self._signer is None),
            )
            if missing
        )

    def start(self) -> None:
        """Begin a segment, recover what dead processes left, and keep checkpoints; never raises ``OSError``."""
        with contextlib.suppress(AuditFault):
            self._here()

    def intent(self, fields: Mapping[str, Any]) -> None:
        """Record what is about to be sent; ``fields`` has an ``id``.

        When this returns, the record is on disk. Raises ``AuditFault`` if it may not be: then nothing may be sent.
        """
        self._here().journal.record("intent", fields, str(fields["id"]))

    def outcome(self, fields: Mapping[str, Any]) -> None:
        """Record how the call with this ``id`` ended; durable within a second.

        While the disk takes nothing it is kept in memory: the call is over, there is nobody to refuse. Raises
        ``AuditFault`` only after ``close()``.
        """
        self._here().journal.note("outcome", fields, str(fields["id"]))

    def lag(self) -> float:
        """Seconds since the oldest record was made that is not durable yet."""
        process = self._process
        return process.journal.lag() if process is not None else 0.0

    def obstacle(self) -> str | None:
        """Why nothing can be recorded at the moment, for readiness; ``None`` when it can."""
        process = self._process
        return process.journal.obstacle if process is not None else None

    def vitals(self) -> dict[str, float]:
        """Figures of this process: lag in seconds, and counters."""
        process = self._process
        return process.vitals() if process is not None else {"lag_seconds": 0.0}

    def close(self) -> None:
        """Make everything durable, sign it if this process leads, and let go of all files."""
        with self._lock:
            self._closed, process, self._process = True, self._process, None
        if process is not None:
            process.close()

    def _here(self) -> "_Process":
        process = self._process
        if process is not None:
            return process
        with self._lock:
            if self._closed:
                raise AuditFault("the audit trail was closed")
            if self._process is None:
                journal = Journal(
                    self._directory, self._seal_to, self._policy, self._table.segment_bytes
                )
                log_ = CheckpointLog(self._directory, self._signer)
                self._process = _Process(self._directory, journal, log_, self._table)
            return self._process

    def _forked(self) -> None:
        """In the child: the parent's files are not ours, and a lock may be held by a thread that is not here."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            process.forget()


class _Process:
    """What one process has: its journal, and two threads that look after it."""

    def __init__(
        self, directory: Path, journal: Journal, checkpoints: CheckpointLog, table: AuditTable
    ) -> None:
        self.journal = journal
        self._exporters = Exporters(table.export)
        self._overseer = Overseer(directory, journal, checkpoints, self._exporters.put)
        self._seconds = table.checkpoint_seconds
        self._stop = threading.Event()
        journal.try_again()
        self._threads = [
            threading.Thread(target=work, name=f"audit-{work.__name__.strip('_')}", daemon=True)
            for work in (self._keep, self._oversee)
        ]
        for thread in self._threads:
            thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(_BEAT):
            self.journal.sync()
            self.journal.try_again()

    def _oversee(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() >= due:
                self._overseer.tick()
                due = time.monotonic() + self._seconds
            self._exporters.pump()
            self._stop.wait(min(1.0, max(0.0, due - time.monotonic())))

    def vitals(self) -> dict[str, float]:
        exporters = self._exporters.all
        return {
            "lag_seconds": self.journal.lag(),
            "faults": self.journal.faults,
            "outcomes_dropped": self.journal.dropped,
            "recovered": self._overseer.recovered,
            "checkpoint_failures": self._overseer.failures,
            "export_failures": sum(each.failures for each in exporters),
            "exports_dropped": sum(each.dropped for each in exporters),
        }

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.journal.close()
        self._overseer.last()
        self._exporters.pump(at_once=True)

    def forget(self) -> None:
        self._stop.set()
        self.journal.forget()
        self._overseer.forget()


def _prepared(directory: str, where: str) -> Path:
    path = Path(directory)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"{where} = {directory!r}: {error.strerror}. Name a directory that this user may write in."
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"{where} = {directory!r}: this user may not write there. Run: chown and chmod 700"
        )
    if mode & _OTHERS_WRITE:
        raise ConfigError(
            f"{where} = {directory!r}: others may write there, and could remove records. Run: chmod go-w {directory}"
        )
    return path.absolute()


_trails: "weakref.WeakSet[Trail]" = weakref.WeakSet()


def _after_fork() -> None:
    for trail in list(_trails):
        trail._forked()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
