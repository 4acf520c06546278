"""Leaves an upstream alone for a while that failed several times in a row; one of it for each process."""

import threading
import time
from collections.abc import Iterable
from typing import Final

from proxy.model import Breaker, Upstream

#: Errors of the upstream's, or of the way to it; all others are the caller's, or ours.
_FAULTS: Final = frozenset(
    {
        "connect",
        "cut",
        "encoding",
        "protocol",
        "resolve",
        "timeout_connect",
        "timeout_first_byte",
        "timeout_idle",
        "tls",
    }
)
_SERVER_ERROR: Final = 500
#: Seconds after which somebody else may look whether the upstream is back.
_PROBING: Final = 1.0


class Breakers:
    """The circuit breakers of all upstreams that have one."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._circuits = {
            upstream.name: _Circuit(upstream.breaker)
            for upstream in upstreams
            if upstream.breaker is not None
        }

    def wait(self, upstream: str) -> float:
        """Seconds until ``upstream`` may be tried; at 0 it is tried now, and what comes of it must be told."""
        circuit = self._circuits.get(upstream)
        return circuit.wait() if circuit else 0.0

    def answered(self, upstream: str, status: int) -> None:
        """Note an answer; a caller's 4xx says that the upstream works."""
        if circuit := self._circuits.get(upstream):
            circuit.told(failed=status >= _SERVER_ERROR)

    def failed(self, upstream: str, kind: str) -> None:
        """Note that there was no answer of use; ``kind`` is that of the ``UpstreamError``."""
        if circuit := self._circuits.get(upstream):
            circuit.told(failed=True) if kind in _FAULTS else circuit.spared()

    def spared(self, upstream: str) -> None:
        """Note that it was not the upstream's doing, or that it was not even asked."""
        if circuit := self._circuits.get(upstream):
            circuit.spared()

    @property
    def open(self) -> int:
        """How many upstreams are left alone at the moment."""
        return sum(circuit.is_open for circuit in self._circuits.values())


class _Circuit:
    """Closed until ``failures`` in a row; then open, with one call let through now and again to look."""

    def __init__(self, settings: Breaker) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the upstream is left alone, but for one call now and again."""
        return self._open_until is not None

    def wait(self) -> float:
        if not self.is_open:
            return 0.0
        with self._lock:
            left = (self._open_until or 0.0) - time.monotonic()
            if left <= 0 and self.is_open:
                # Half-open: this call looks, and the others wait for what it finds.
                self._open_until = time.monotonic() + _PROBING
            return max(0.0, left)

    def told(self, *, failed: bool) -> None:
        if not failed and not self._failures:
            return
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if not failed:
                self._open_until = None
            elif self._failures >= self._settings.failures:
                self._open_until = time.monotonic() + self._settings.seconds

    def spared(self) -> None:
        """The call that looked saw nothing: the next may look at once."""
        with self._lock:
            if self._open_until is not None and self._failures >= self._settings.failures:
                self._open_until = min(self._open_until, time.monotonic())
