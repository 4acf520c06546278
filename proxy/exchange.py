"""One call from its first byte to its record: whatever the end, it is recorded exactly once."""

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from proxy.errors import ApiError, UpstreamError
from proxy.mask import Vault
from proxy.model import Call, Credentials, Deny, Endpoint, Outcome, Principal, Reply
from proxy.observing import Observation
from proxy.records import Failure, Record
from proxy.rehearsal.witness import Witness
from proxy.steps import Running, Trail

log: Final = logging.getLogger("outgate.exchange")
#: Texts of a record that a caller or an upstream chose are clipped to this many characters.
_LONGEST: Final = 256
FINDINGS_HEADER: Final = "x-outgate-findings"
REMOVED_HEADER: Final = "x-outgate-removed"
UPSTREAM_HEADER: Final = "x-outgate-upstream"
ATTEMPTS_HEADER: Final = "x-outgate-attempts"
_LONGEST_HEADER: Final = 1024
_MOST_REASONS: Final = 128
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_LAST_STATUS: Final = 599


class Answer:
    """What goes back to the caller; ``body`` is iterated once and then closed by the server."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[str, str]], body: Iterable[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Exchange:
    """What is known of one call so far. Used by one thread at a time; ``finish`` may be called by any."""

    def __init__(
        self,
        endpoint: Endpoint,
        client: str,
        running: Running,
        tell: Callable[["Exchange", Record], None],
    ) -> None:
        self.id = f"req_{os.urandom(16).hex()}"
        self.endpoint: Endpoint = endpoint
        self.client = client
        self.trail = Trail(running)
        self.started = time.perf_counter()
        self.time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.principal: Principal | None = None
        self.credentials = Credentials()
        self.vault: Vault | None = None
        self.call: Call | None = None
        self.witness: Witness | None = None
        self.failures: tuple[Failure, ...] = ()
        self.facts: dict[str, Any] = {}
        self.hides_usage = False
        self.bytes_out = 0
        self.waited = 0.0
        self.kept: bytearray | None = None
        self._most_kept = 0
        self._outcome: Outcome | None = None
        self.observation: Observation | None = None
        self.running = running
        self._tell = tell
        self._releases: list[Callable[[], object]] = []
        self._open = threading.Lock()

    def on_finish(self, release: Callable[[], object]) -> None:
        """Have ``release()`` called when the call is over; the last one registered is called first."""
        self._releases.append(release)

    def wait(self, seconds: float) -> None:
        """Note time that was spent in waiting for the upstream."""
        self.waited += seconds

    def failed(self, error: UpstreamError) -> None:
        """Note why the upstream that was asked last gave no complete answer."""
        failure = Failure(self.facts["upstream"], error.kind, error.detail)
        self.failures = (*self.failures, failure)

    def finish(self, outcome: Outcome, status: int, **facts: Any) -> None:
        """Release what the call holds and hand over its record; only the first time it is called."""
        if not self._open.acquire(blocking=False):
            return
        self._outcome = outcome
        for release in reversed(self._releases):
            try:
                release()
            except Exception:
                log.exception("%s: a resource could not be released", self.id)
        try:
            self._tell(self, self._record(outcome, status, {**self.facts, **facts}))
        except Exception:
            log.exception("%s: the call could not be recorded", self.id)

    def over(self) -> None:
        """What is left to do once the answer is handed over and the call is recorded; only the first time."""
        observation, self.observation = self.observation, None
        if observation is not None and self._outcome == "ok":
            try:
                observation.tell(self.running)
            except Exception:
                log.exception("%s: the answer could not be shown to plugins", self.id)

    def _record(self, outcome: Outcome, status: int, facts: dict[str, Any]) -> Record:
        call, principal = self.call, self.principal
        seconds = time.perf_counter() - self.started
        reasons = facts.pop("finish_reasons", ())[:_MOST_REASONS]
        return Record(
            id=self.id,
            time=self.time,
            endpoint=self.endpoint,
            outcome=outcome,
            status=status,
            seconds=round(seconds, 6),
            proxy_seconds=round(max(0.0, seconds - self.waited), 6),
            principal=principal.name if principal else None,
            groups=principal.groups if principal else (),
            metadata=principal.metadata if principal else {},
            model=self.model_shown(),
            stream=call.stream if call else False,
            client=self.client,
            upstream_request_id=_clipped(facts.pop("upstream_request_id", None)),
            finish_reasons=tuple(reason[:_LONGEST] for reason in reasons),
            failures=self.failures,
            bytes_out=self.bytes_out,
            verdicts=tuple(self.trail.verdicts),
            findings=tuple(self.trail.findings),
            notes=dict(call.notes) if call else {},
            **facts,
        )

    def model_shown(self) -> str | None:
        """The model, unless something was found in its name."""
        found = any(finding.place == "model" for finding in self.trail.findings)
        return None if found or self.call is None else _clipped(self.call.model)

    def keep_reply(self, most: int) -> None:
        """Keep the first ``most`` bytes of the reply, for whoever records content."""
        self.kept, self._most_kept = bytearray(), most

    def answered(self, status: int, data: bytes) -> None:
        """Take note of a whole reply, for a shadow that judges it later."""
        if self.witness is not None:
            self.witness.answered(status, data)

    def shows(self, data: bytes) -> None:
        """Take note of a whole reply as it is shown."""
        if self.witness is not None:
            self.witness.shown = data

    def shown(self, piece: bytes) -> None:
        """Take note of a piece of the reply."""
        if piece and not self.bytes_out:
            self.facts["first_byte_seconds"] = round(time.perf_counter() - self.started, 6)
        if self.kept is not None:
            self.kept += piece[: self._most_kept - len(self.kept)]
        self.bytes_out += len(piece)

    def refuse(
        self, error: ApiError, outcome: Outcome = "denied", by: str | None = None,
        told: Reply | None = None,
    ) -> Answer:  # fmt: skip
        """End the call with an error of our own, in the words of ``told`` if there are others."""
        status, body = (told.status, told.body) if told else (error.status, error.body())
        # Escaped to ASCII: a plugin's message may hold what UTF-8 cannot say.
        data = json.dumps(body, default=str).encode()
        self.bytes_out = len(data)
        self.finish(outcome, status, code=error.code or error.type, denied_by=by)
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            *error.headers().items(),
        ]
        return Answer(status, self.signed(headers), [data])

    def signed(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """``headers`` with the call's id, and ``x-request-id`` if the upstream gave none."""
        named = (
            []
            if any(name == "x-request-id" for name, _ in headers)
            else [("x-request-id", self.id)]
        )
        extra = self.call.reply_headers if self.call else {}
        kept = [(name, value) for name, value in headers if name not in extra]
        removed = self.facts.get("removed") or ()
        told = [(REMOVED_HEADER, ", ".join(removed))] if removed else []
        own = [*self._found(), *told, *self._way(), ("x-outgate-id", self.id)]
        return [*kept, *extra.items(), *named, *own]

    def _way(self) -> list[tuple[str, str]]:
        """Whose answer this is, and after how many tries."""
        if "upstream_address" not in self.facts:
            return []
        attempts = str(self.facts["attempts"])
        return [(UPSTREAM_HEADER, self.facts["upstream"]), (ATTEMPTS_HEADER, attempts)]

    def _found(self) -> list[tuple[str, str]]:
        """What was found so far, kind by kind, for a caller who asks for it with the same header."""
        if self.call is None or FINDINGS_HEADER not in self.call.headers:
            return []
        counts = Counter(finding.kind for finding in self.trail.findings)
        told = ", ".join(f"{kind}={count}" for kind, count in sorted(counts.items()))
        return [(FINDINGS_HEADER, told[:_LONGEST_HEADER] or "none")]


class Denied(ApiError):
    """A plugin's Deny on its way to the caller; a status that is no refusal becomes 500."""

    def __init__(self, deny: Deny, by: str) -> None:
        status = deny.status if _is_error(deny.status) else _SERVER_ERROR
        kind = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
        kind = deny.type or kind
        super().__init__(deny.message, status=status, type=kind, code=deny.code, param=deny.param)
        self.by = by
        self.deny = deny

    def headers(self) -> dict[str, str]:
        """The refusal's own; one that says when to try again is worth another try."""
        own = dict(self.deny.headers)
        return own if "retry-after" in own else {**super().headers(), **own}


def _is_error(status: Any) -> bool:
    return type(status) is int and _CLIENT_ERROR <= status <= _LAST_STATUS


def _clipped(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST]


class Outgoing:
    """The reply on its way out: an iterator that the server closes, which settles the exchange.

    A generator would not do: closed before its first ``next()`` it never runs its ``finally``.
    """

    def __init__(self, pieces: Iterator[bytes], exchange: Exchange, status: int) -> None:
        self._pieces = pieces
        self._exchange = exchange
        self._status = status
        self._handed: float | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._taken()
        try:
            piece = next(self._pieces)
        except Exception as error:
            if not isinstance(error, StopIteration):
                # The server breaks the connection off, so the caller sees that this is not the end.
                self._exchange.finish("truncated", self._status, code="internal_error")
            raise
        self._exchange.shown(piece)
        self._handed = time.perf_counter()
        return piece

    def _taken(self) -> None:
        """Note how long the server, and through it the caller, took with the last piece."""
        if self._handed is not None:
            self._exchange.waited += time.perf_counter() - self._handed
            self._handed = None

    def close(self) -> None:
        """Called by the server after the last piece, or as soon as the caller is gone."""
        self._taken()
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._exchange.finish("client_gone", self._status)
            self._exchange.over()

    # A framework that drops the answer on the way to the server closes nothing.
    __del__ = close
