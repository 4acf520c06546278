"""Sends records on in the background: a bounded queue, back-off while the receiver is away, losses counted."""

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Literal

from proxy.errors import OutgateError

log: Final = logging.getLogger("outgate.outbox")
#: Its own: a program may seed the one that all share, and would find it moved on.
_chance: Final = random.SystemRandom()
#: Seconds a batch may wait for company.
_LINGER: Final = 0.1
#: Seconds between attempts: doubled from the first to the longest.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 15.0
#: Seconds for what is left when the process ends; gunicorn kills it soon after.
_AT_EXIT: Final = 2.0
_LOG_EVERY: Final = 60.0


class Undelivered(OutgateError):
    """What a sink that is ``required`` raises while its receiver takes nothing; says why."""


class Undeliverable(OutgateError):
    """Raised by ``deliver`` for what the receiver will never take: it is not tried again."""


class Outbox:
    """Hands what is ``put`` to ``deliver`` in another thread, in order, at least once.

    ``deliver`` gets up to ``batch`` items; when it raises, all of them are tried again, with growing pauses,
    until it returns. ``Undeliverable`` drops them: each by itself, so that one bad item loses no other.
    At most ``most`` items of ``most_bytes`` together wait; what comes beyond is dropped and counted.
    They wait in memory: a process that is killed loses them, one that ends has two seconds to send them.
    Made anew in a forked process, whose parent keeps what waits.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Sequence[bytes]], None],
        *,
        batch: int = 100,
        most: int = 10_000,
        most_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._batch = batch
        self._most, self._most_bytes = most, most_bytes
        self._begin()
        _all.add(self)

    def put(self, item: bytes, *, must: bool = False) -> None:
        """Take an item, or drop it when there is no room.

        With ``must`` the caller hears of it: ``Undelivered`` when there was no room, and while the last
        attempt at anything failed (the item waits then, and the next attempt is the receiver's next chance).
        """
        with self._changed:
            room = len(self._items) < self._most and self._bytes + len(item) <= self._most_bytes
            if room:
                self._items.append(item)
                self._bytes += len(item)
                self._start()
                self._changed.notify_all()
            else:
                self._lose("there is no room")
            fault = self.fault if room else "more records wait than there is room for"
        if must and fault is not None:
            raise Undelivered(f"{self.name}: {fault}")

    @property
    def waiting(self) -> int:
        """How many items are still to be delivered."""
        return len(self._items)

    def hurry(self) -> None:
        """Try at once, without pause, and give up on what fails then: the process ends."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits any more; whether that was so within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._items, seconds)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._hurried = False
        self._one_by_one = 0
        self._logged = -_LOG_EVERY
        self.dropped = 0
        self.fault: str | None = None

    def _start(self) -> None:
        # Not before the first item: threads do not survive the fork that makes a worker.
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while True:
            batch = self._next(pause)
            end = self._attempt(batch)
            with self._changed:
                for _ in batch if end == "settled" else ():
                    self._bytes -= len(self._items.popleft())
                self._changed.notify_all()
                if self._hurried and end == "failed":
                    return
            pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause)) if end == "failed" else 0.0

    def _next(self, pause: float) -> list[bytes]:
        """What is to be delivered next, once there is something and the pause is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._items)
            if pause:
                # Not in step with the other processes, whose receiver was away as long.
                self._changed.wait_for(lambda: self._hurried, pause * _chance.uniform(0.5, 1))
            else:
                self._changed.wait_for(
                    lambda: self._hurried or len(self._items) >= self._batch, _LINGER
                )
            size = 1 if self._one_by_one else self._batch
            self._one_by_one = max(0, self._one_by_one - 1)
            return list(islice(self._items, size))

    def _attempt(self, batch: list[bytes]) -> Literal["settled", "split", "failed"]:
        """Deliver ``batch``; settled is what was delivered or given up."""
        try:
            self._deliver(batch)
        except Undeliverable as error:
            if len(batch) > 1:
                self._one_by_one = len(batch)
                return "split"
            with self._changed:
                self._lose(str(error))
            return "settled"
        except Exception as error:  # noqa: BLE001 - whatever it is, the receiver has not got them
            with self._changed:
                self.fault = f"{type(error).__name__}: {error}"[:256]
                self._tell("deliveries fail: %s", self.fault)
            return "failed"
        with self._changed:
            if self.fault is not None:
                log.info("%s: deliveries work again, %d were lost", self.name, self.dropped)
                self.fault = None
                self._logged = -_LOG_EVERY
        return "settled"

    def _lose(self, why: str) -> None:
        self.dropped += 1
        self.fault = self.fault or f"a record was lost: {why}"
        self._tell("a record was lost: %s", why)

    def _tell(self, what: str, why: str) -> None:
        """One line a minute: during an outage there would be one for each call."""
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY:
            self._logged = now
            text = f"%s: {what} (%d wait, %d lost)"
            log.error(text, self.name, why, len(self._items), self.dropped)


_all: Final[weakref.WeakSet[Outbox]] = weakref.WeakSet()


def totals() -> tuple[int, int, int]:
    """Of all outboxes of this process: items that wait, items that were lost, boxes that fail."""
    boxes = list(_all)
    return (
        sum(box.waiting for box in boxes),
        sum(box.dropped for box in boxes),
        sum(box.fault is not None for box in boxes),
    )


def flush(seconds: float = _AT_EXIT) -> None:
    """Deliver what can be delivered in ``seconds``, and say what could not."""
    deadline = time.monotonic() + seconds
    boxes = [box for box in _all if box.waiting]
    for box in boxes:
        box.hurry()
    for box in boxes:
        if not box.flush(max(0.0, deadline - time.monotonic())):
            log.error(
                "%s: %d records were not delivered before the end: %s",
                box.name,
                box.waiting,
                box.fault or "no time was left",
            )


def _after_fork() -> None:
    for box in list(_all):
        box._begin()  # noqa: SLF001 - of this module


atexit.register(flush)
os.register_at_fork(after_in_child=_after_fork)
