"""Keys that were found already, for as long as nothing has changed: a look-up without the database."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final

from proxy.errors import Unavailable

#: Seconds between two looks at the number of changes.
POLL: Final = 0.25
#: Seconds that answers are good for when that number cannot be read: a revocation takes less than a second.
VALID: Final = 0.9
#: Seconds for which a database that did not answer is not asked again.
_PAUSE: Final = 0.5
_MOST_KNOWN: Final = 65_536
#: Strangers must not fill the memory.
_MOST_UNKNOWN: Final = 4_096
_MISSING: Final = object()


class Known:
    """Answers of the database by what was asked, dropped together when the number of changes moves.

    ``number`` reads that number. It is looked at before an answer is given, at most every ``POLL`` seconds by
    the monotonic clock and by one thread. An answer is kept only if it came together with the number that
    is current here: one that was read before a change can never be kept after it.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self._read_number = number
        self._number: int | None = None
        self._looked = float("-inf")
        self._failed = float("-inf")
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._known: dict[Hashable, Any] = {}
        self._unknown: set[Hashable] = set()

    def get(self, asked: Hashable, read: Callable[[], tuple[int, Any | None]]) -> Any | None:
        """The answer to ``asked``: a kept one, or what ``read`` returns with the number of changes.

        Raises ``Unavailable`` when the database does not answer, and kept answers are too old.
        """
        if time.monotonic() - self._looked >= POLL:
            self._look()
        found = self._known.get(asked, _MISSING)
        if found is not _MISSING:
            return found
        if asked in self._unknown:
            return None
        number, answer = read()
        self._keep(asked, number, answer)
        return answer

    def _keep(self, asked: Hashable, number: int, answer: Any | None) -> None:
        with self._lock:
            if number != self._number:
                return
            if answer is None:
                if len(self._unknown) >= _MOST_UNKNOWN:
                    self._unknown.clear()
                self._unknown.add(asked)
            else:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[asked] = answer

    def _look(self) -> None:
        """See whether anything changed. While answers are good, nobody waits for the one who looks."""
        good = time.monotonic() - self._looked < VALID
        if not self._looking.acquire(timeout=0 if good else VALID):
            if good:
                return
            raise _away()
        try:
            self._refresh()
        except Unavailable:
            self._failed = time.monotonic()
        finally:
            self._looking.release()
        if time.monotonic() - self._looked >= VALID:
            raise _away()

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < POLL or now - self._failed < _PAUSE:
            return
        number = self._read_number()
        with self._lock:
            if number != self._number:
                self._number, self._known, self._unknown = number, {}, set()
            self._looked = now


def _away() -> Unavailable:
    return Unavailable("The store of this gateway does not answer; try again.")
