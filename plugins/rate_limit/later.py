"""What is done a moment after a call, by a thread that ends when there is nothing to do for a while."""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

#: Seconds in which calls gather, so that one transaction does for all of them.
PAUSE: Final = 0.05
_IDLE: Final = 5.0


class Later:
    """Has ``work`` called soon after each ``soon``; it must not raise, and returns the seconds to wait after it."""

    def __init__(self, work: Callable[[], float]) -> None:
        self._work = work
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._running = False
        self._process = 0

    def soon(self) -> None:
        """There is something to do."""
        # While the thread gathers, this wakes nobody.
        if not self._wanted.is_set():
            self._wanted.set()
        if not self._running or self._process != os.getpid():
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._running and self._process == os.getpid():
                return
            self._running, self._process = True, os.getpid()
            threading.Thread(target=self._run, name="rate-limit-later", daemon=True).start()

    def _run(self) -> None:
        while self._is_wanted():
            self._wanted.clear()
            time.sleep(PAUSE)
            time.sleep(self._work())

    def _is_wanted(self) -> bool:
        if self._wanted.wait(_IDLE):
            return True
        with self._lock:
            # Whoever asks from now on starts another.
            self._running = self._wanted.is_set()
            return self._running
