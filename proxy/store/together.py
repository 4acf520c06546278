"""Threads that want something of one database at the same time: one of them does it for all, in one transaction.

Every statement lets other threads run, and among many of them each one's own transaction would take as long as all
of theirs. Who is alone does its own at once, and pays nothing for this.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar


class Wish:
    """What one thread wants; ``error`` is why it was not done."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.gate: threading.Lock | None = None


Wanted = TypeVar("Wanted", bound=Wish)


class Together(Generic[Wanted]):
    """``lead(those)`` opens the transaction, and does in it what ``those()`` gives: of all who wait by then.

    What it raises is raised to all of them; what concerns one alone it notes as that one's ``error``.
    """

    def __init__(self, lead: Callable[[Callable[[], Sequence[Wanted]]], None]) -> None:
        self._lead: Final = lead
        self._lock = threading.Lock()
        self._waiting: list[Wanted] = []

    def do(self, wish: Wanted) -> None:
        """Return when it is done, by this thread or by another; raises why it is not."""
        with self._lock:
            wish.error, wish.gate = None, None
            if self._waiting:
                wish.gate = threading.Lock()
                wish.gate.acquire()
            self._waiting.append(wish)
        if wish.gate is not None:
            wish.gate.acquire()
        else:
            self._do()
        if wish.error is not None:
            raise wish.error

    def _do(self) -> None:
        taken: list[Wanted] = []

        def those() -> list[Wanted]:
            # Who comes from now on waits for the next transaction, and one of them leads it.
            with self._lock:
                taken.extend(self._waiting)
                self._waiting.clear()
            return taken

        try:
            self._lead(those)
        except BaseException as error:  # noqa: BLE001 - nobody must wait for ever
            for wish in taken or those():
                wish.error = error if wish.gate is None else copy.copy(error)
        finally:
            for wish in taken:
                if wish.gate is not None:
                    wish.gate.release()
