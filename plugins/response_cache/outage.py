"""What happens while the storage cannot be used: calls go on without it, and the log says how many did."""

import logging
import threading
import time
from typing import Final

log: Final = logging.getLogger("outgate.response_cache")
_PAUSE: Final = 1.0  # seconds without another try: a storage that hangs must not hold every call up
_SAY_AGAIN: Final = 60.0  # seconds between two log lines


class Outage:
    """One for each storage and process; ``without`` counts the uses that came to nothing."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._tried = self._said = float("-inf")
        self._away = False
        self.without = 0

    def is_waiting(self) -> bool:
        """Whether it failed so lately that it is not tried again yet; counted if so."""
        if not self._away or time.monotonic() - self._tried >= _PAUSE:
            return False
        self.without += 1
        return True

    def failed(self, error: Exception, *, lasts: bool = True) -> None:
        """A use failed; ``lasts`` if the next is likely to. Said once a minute."""
        now = time.monotonic()
        with self._lock:
            self.without += 1
            due = now - self._said > _SAY_AGAIN
            if due:
                self._said = now
            if lasts:
                self._away, self._tried = True, now
        if due:
            reason = " ".join(str(error).split()) or type(error).__name__
            then = f"calls go to their upstreams ({self.without} so far)"
            log.error("%s cannot be used: %s; %s", self._what, reason, then)

    def ended(self) -> None:
        """It answered."""
        if self._away:
            self._away = False
            log.warning("%s can be used again", self._what)
