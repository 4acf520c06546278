"""What happens while the counters cannot be reached: refuse with 503, or let calls pass and say how many."""

import logging
import threading
import time
from typing import Final, Literal

from proxy import Unavailable

log: Final = logging.getLogger("outgate.rate_limit")
_PAUSE: Final = (
    1.0  # seconds without another try: a server that is down must not hold every call up
)
_SAY_AGAIN: Final = 60.0  # seconds between two log lines


class Outage:
    """One for each storage and process: whether to try it, and what to do without it."""

    def __init__(self, policy: Literal["refuse", "allow"], what: str) -> None:
        self._policy = policy
        self._what = what
        self._lock = threading.Lock()
        self._tried = self._said = -_SAY_AGAIN
        self._passed = 0
        self._away = False

    def is_waiting(self) -> bool:
        """Whether it failed so lately that it is not tried again yet."""
        return self._away and time.monotonic() - self._tried < _PAUSE

    def began(self, error: Exception) -> None:
        """The storage failed; said at once, then once a minute for as long as it lasts."""
        now = time.monotonic()
        with self._lock:
            if not self._away or now - self._said > _SAY_AGAIN:
                self._said = now
                reason, then = _reason(error), self._consequence()
                log.error("%s cannot be used: %s; %s", self._what, reason, then)
            self._away, self._tried = True, now

    def ended(self) -> None:
        """The storage answered."""
        if not self._away:
            return
        with self._lock:
            if self._away:
                log.warning(
                    "%s can be used again; %d calls passed without limits", self._what, self._passed
                )
            self._away, self._passed = False, 0

    def endure(self) -> None:
        """Go on without the storage, or raise ``Unavailable``."""
        if self._policy == "refuse":
            raise Unavailable("Rate limits cannot be checked at the moment. Try again.")
        with self._lock:
            self._passed += 1

    def _consequence(self) -> str:
        if self._policy == "refuse":
            return 'calls are refused with 503 (on_outage = "allow" would let them pass)'
        return f"calls pass without limits, {self._passed} so far"


def _reason(error: Exception) -> str:
    """One line; a client's message never holds the password of its URL."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
