"""Who may enter: calls within capacity, while the process is not draining and every required sink records."""

import threading
import time
from collections.abc import Mapping
from typing import Final

from proxy.errors import ApiError
from proxy.steps import Running

#: Seconds: a call that would be ended sooner than this is better sent elsewhere.
WORTH_STARTING: Final = 10.0


class Gate:
    """One per process. Refuses at once instead of letting calls queue behind busy threads."""

    def __init__(self, capacity: int, running: Running, hung_hooks: int) -> None:
        self.capacity = capacity
        self.inside = 0
        self.draining_until: float | None = None
        self._running = running
        self._hung_hooks = hung_hooks
        self._failing: set[str] = set()
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Take a place, or raise ``ApiError`` 503 with ``retry-after``."""
        if self._closes_soon():
            raise _unavailable("This gateway is restarting; try again.", "draining", 1)
        if self._failing:
            names = ", ".join(sorted(self._failing))
            raise _unavailable(
                f"Calls cannot be recorded at the moment ({names}), so none is sent.",
                "log_unavailable",
                5,
            )
        with self._lock:
            if self.inside >= self.capacity:
                raise _unavailable(
                    "This gateway serves as many calls as it can; try again.", "overloaded", 1
                )
            self.inside += 1

    def _closes_soon(self) -> bool:
        # On connections that were open before, calls still come: a reload must not fail them.
        until = self.draining_until
        return until is not None and until - time.monotonic() < WORTH_STARTING

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self.inside -= 1

    def told(self, required: Mapping[str, bool]) -> None:
        """Note which required sinks took the last record: one that failed closes the gate until it takes one."""
        for name, taken in required.items():
            (self._failing.discard if taken else self._failing.add)(name)

    def drain(self, seconds: float) -> float:
        """End in ``seconds``; returns the monotonic time by which the calls inside must have ended.

        Asked again, it may end earlier than it was to, and never later.
        A call that comes meanwhile is let in while at least ``WORTH_STARTING`` seconds are left for it.
        """
        until = time.monotonic() + seconds
        if self.draining_until is None or until < self.draining_until:
            self.draining_until = until
        return self.draining_until

    def obstacles(self) -> list[str]:
        """Why this process is not ready, in words; empty when it is."""
        hung = self._running.hung()
        return [
            *(["draining"] if self.draining_until is not None else []),
            *(f"required log {name} fails" for name in sorted(self._failing)),
            *(
                [f"hooks hang: {', '.join(sorted(set(hung)))}"]
                if len(hung) >= self._hung_hooks
                else []
            ),
        ]


def _unavailable(message: str, code: str, retry_after: int) -> ApiError:
    return ApiError(message, status=503, code=code, retry_after=retry_after)
