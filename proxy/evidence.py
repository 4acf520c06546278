"""Has every call on record before anything of it leaves, and again when it is over."""

import logging
import threading
import time
from typing import Any, Final

import msgspec

from proxy.audit.content import Keeper
from proxy.audit.faults import AuditFault
from proxy.audit.table import AuditTable
from proxy.audit.trail import Trail
from proxy.errors import ApiError
from proxy.exchange import Exchange
from proxy.model import Call
from proxy.records import Record
from proxy.rendering import rendered

log: Final = logging.getLogger("outgate.evidence")
#: What an intent takes from what is known of the call when it leaves.
_FACTS: Final[tuple[str, ...]] = (
    "upstream",
    "retry_count",
    "digest",
    "bridged",
    "bridged_digest",
    "bytes_in",
    "bytes_sent",
    "policy",
)
_LOG_EVERY: Final = 60.0
_RETRY_AFTER: Final = 5


class Evidence:
    """``[audit]`` at work in one process; without the table nothing is kept.

    Raises ``ConfigError`` if the directory or a key cannot be used.
    """

    def __init__(self, table: AuditTable | None, digest: str, where: str = "audit") -> None:
        self._trail = Trail(table, digest, where) if table else None
        self._keeper = (
            Keeper(table.content, f"{where}.content") if table and table.content else None
        )
        self._most = table.content.most_bytes if table and table.content else 0
        self._lock = threading.Lock()
        self._unrecorded = 0
        self._said = 0.0

    def start(self) -> None:
        """Begin to record, as a server does before its first call."""
        if self._trail is not None:
            for notice in self._trail.notices:
                log.warning(notice)
            self._trail.start()

    def close(self) -> None:
        """Make everything durable and let go of the files."""
        if self._trail is not None:
            self._trail.close()

    def begin(self, exchange: Exchange) -> None:
        """Have as much of the reply kept as the configuration says."""
        if self._keeper is not None and self._keeper.wants("reply"):
            exchange.keep_reply(self._most)

    def leaving(self, exchange: Exchange, call: Call, sent: bytes) -> None:
        """Return when it is on disk that ``sent`` leaves; raises ``ApiError`` 503 where it must be and cannot."""
        if self._trail is None:
            return
        fields = _intent(exchange, call)
        if self._keeper is not None:
            fields |= self._keeper.sealed(exchange.id, "request", sent)
        try:
            self._trail.intent(fields)
        except AuditFault as fault:
            if self._trail.required:
                raise _unavailable(fault) from None
            self._missed(fault)

    def over(self, exchange: Exchange, record: Record) -> None:
        """Record how a call ended; never raises."""
        if self._trail is None:
            return
        fields = rendered(record)
        if self._keeper is not None and exchange.kept is not None:
            size = record.bytes_out
            fields |= self._keeper.sealed(exchange.id, "reply", bytes(exchange.kept), size)
        try:
            self._trail.outcome(fields)
        except AuditFault as fault:
            self._missed(fault)

    def obstacle(self) -> str | None:
        """Why no call may leave at the moment, where none may leave unrecorded."""
        trail = self._trail
        fault = trail.obstacle() if trail is not None and trail.required else None
        return f"audit: {fault}" if fault else None

    def vitals(self) -> dict[str, float]:
        """Figures of this process; empty where nothing is kept."""
        if self._trail is None:
            return {}
        told = {f"audit_{name}": value for name, value in self._trail.vitals().items()}
        return {**told, "audit_unrecorded": self._unrecorded}

    def _missed(self, fault: AuditFault) -> None:
        """Count a call that is not on record, and say so once a minute."""
        with self._lock:
            self._unrecorded += 1
            due = time.monotonic() - self._said > _LOG_EVERY or not self._said
            if due:
                self._said = time.monotonic()
        if due:
            log.error("calls are not recorded (%d so far): %s", self._unrecorded, fault)


def _intent(exchange: Exchange, call: Call) -> dict[str, Any]:
    """What is known of a call at the moment it leaves; no content and no credential."""
    known = {name: exchange.facts[name] for name in _FACTS if name in exchange.facts}
    return {
        "id": exchange.id,
        "time": exchange.time,
        "endpoint": call.endpoint,
        "principal": call.principal.name,
        "groups": call.principal.groups,
        "metadata": dict(call.principal.metadata),
        "model": exchange.model_shown(),
        "stream": call.stream,
        "client": exchange.client,
        "attempt": exchange.facts.get("attempts", 0),
        **known,
        "verdicts": msgspec.to_builtins(exchange.trail.verdicts),
        "findings": msgspec.to_builtins(exchange.trail.findings),
    }


def _unavailable(fault: AuditFault) -> ApiError:
    log.error("a call was refused, because it cannot be recorded: %s", fault)
    return ApiError(
        "Calls cannot be recorded at the moment, so none is sent; try again.",
        status=503,
        code="audit_unavailable",
        retry_after=_RETRY_AFTER,
    )
