"""Which processes hold reservations, and which of them are dead: told by a counter that stands still."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

BEATS_PER_LEASE: Final = 5
_STARTED: Final = 18  # of what follows the state in /proc/PID/stat: proc(5), starttime
_ENDED: Final = -1


class Holder(Struct, frozen=True):
    """One process as the table of holders has it; ``started`` tells it from a later one with the same number."""

    id: str
    host: str
    pid: int
    started: int
    beat: int = 0


def myself() -> Holder:
    """This process, under an id of its own."""
    pid = os.getpid()
    return Holder(os.urandom(8).hex(), host(), pid, started(pid))


def host() -> str:
    """Where process numbers mean the same: this boot of this machine, this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""  # not Linux: only the counter tells


def started(pid: int) -> int:
    """When a process began, in ticks since boot; -1 when it has ended, 0 when that cannot be told."""
    try:
        os.kill(pid, 0)
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except ProcessLookupError:
        return _ENDED
    except OSError:
        return 0
    state, *fields = text.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not asked yet.
    return _ENDED if state in "ZX" else int(fields[_STARTED])


class _Seen(Struct, frozen=True):
    """A counter as it was seen, since when, and how often."""

    beat: int
    since: float
    times: int = 1


class Watch:
    """Tells the dead by what it has seen itself, on its own monotonic clock: no other clock counts."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[str, _Seen] = {}

    def dead(self, others: Iterable[Holder], now: float) -> list[Holder]:
        """Those that ended on this host, and those whose counter stood still for the lease (seconds).

        It must have been seen standing still as often as it beats in that time: who slept cannot tell.
        """
        here = host()
        seen: dict[str, _Seen] = {}
        dead = []
        for other in others:
            last = self._seen.get(other.id)
            still = last is not None and last.beat == other.beat
            one = (
                _Seen(last.beat, last.since, last.times + 1)
                if still and last
                else _Seen(other.beat, now)
            )
            seen[other.id] = one
            ended = other.host == here != "" and started(other.pid) not in (0, other.started)
            if ended or (one.times > BEATS_PER_LEASE and now - one.since >= self._lease):
                dead.append(other)
        self._seen = seen
        return dead


class Heartbeat:
    """Calls ``tick`` some times each lease from a thread of its own, until it is stopped."""

    def __init__(self, lease: float, tick: Callable[[], None]) -> None:
        self._pause = lease / BEATS_PER_LEASE
        self._tick = tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outgate-ledger", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for a tick that is under way."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(self._pause + 5)

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            self._tick()
