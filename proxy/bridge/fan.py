"""Sends the parts of a call in parallel, a few at once, and gathers what they answer."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.bridge.inbox import Closed, Inbox, Item
from proxy.bridge.listening import Broken, End, Refused, Said, is_error, listen
from proxy.bridge.plan import Part
from proxy.bridge.way import Allowance, Way
from proxy.errors import UpstreamError

if TYPE_CHECKING:
    from proxy.egress import Handle, UpstreamReply

#: Batches of events that wait for a slow caller, whichever part they are of.
_ROOM: Final = 16

Heard: TypeAlias = tuple[Part, list[Said]]


class Fan:
    """The parts of one call under way, each in a thread that also reads its answer.

    ``start``, ``heads``, ``heard`` and ``close`` are for the call's own thread; ``close`` may come from any.
    """

    def __init__(self, way: Way, parts: tuple[Part, ...]) -> None:
        self._way = way
        self._parts = parts
        self._wave = min(way.parallel, len(parts))
        self._awaited = set(range(self._wave))
        self._todo = deque(parts)
        self._allowance = Allowance(way.reply_bytes)
        self._heads: Inbox[UpstreamReply | Exception] = Inbox(len(parts))
        self._inbox: Inbox[Heard] = Inbox(_ROOM)
        self._under_way: dict[int, Handle] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin with as many parts as may be under way at once."""
        for number in range(self._wave):
            name = f"outgate-bridge-{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def heads(self) -> "list[UpstreamReply]":
        """The heads of the first parts' answers; one with an error status alone, and to be read.

        Raises ``UpstreamError`` when one of them has no answer: of a kind after which another upstream is asked
        only if nothing of the call can have arrived.
        """
        found: list[UpstreamReply] = []
        unsent: list[UpstreamError] = []
        for _ in range(self._wave):
            head = _taken(self._heads)
            if isinstance(head, UpstreamError) and head.kind in self._way.unsent:
                unsent.append(head)
            elif isinstance(head, Exception):
                raise head
            elif is_error(head):
                return [head]
            else:
                found.append(head)
        if unsent and found:
            raise _partly(unsent[0])
        if unsent:
            raise unsent[0]
        return found

    def heard(self) -> Iterator[Heard]:
        """What all parts say, in the order they say it, until the last one is over; raises ``UpstreamError``."""
        left = len(self._parts)
        while left:
            part, said = _taken(self._inbox)
            left -= any(isinstance(one, End) for one in said)
            yield part, said

    def close(self) -> None:
        """End whatever is under way; an answer with an error status belongs to who got it, and stays."""
        with self._lock:
            self._todo.clear()
            handles = list(self._under_way.values())
        for handle in handles:
            handle.cancel("client_gone")
        untaken = [head for head in self._heads.close() if not isinstance(head, Exception)]
        # What was answered with success is in the hands of its thread, which closes it.
        for reply in filter(is_error, untaken):
            reply.close()
        for _, said in self._inbox.close():
            for one in said:
                if isinstance(one, Refused):
                    one.reply.close()

    # -- in the threads of the parts -----------------------------------------------------------------

    def _work(self) -> None:
        while (begun := self._begin()) is not None:
            part, handle = begun
            try:
                goes_on = self._ask(part, handle)
            except Exception as error:  # noqa: BLE001 - told to the thread that waits for it
                self._tell(part, error)
                return
            finally:
                self._over(part)
            if not goes_on:
                return

    def _begin(self) -> "tuple[Part, Handle] | None":
        with self._lock:
            if not self._todo:
                return None
            part = self._todo.popleft()
            handle = self._under_way[part.number] = self._way.handle.part()
            return part, handle

    def _over(self, part: Part) -> None:
        with self._lock:
            self._under_way.pop(part.number, None)

    def _ask(self, part: Part, handle: "Handle") -> bool:
        """Have one part answered; False when nothing more is to be begun."""
        reply = self._way.send(part, handle)
        if is_error(reply):
            # From here on it is in the hands of whoever is told of it.
            self._over(part)
            if not self._tell(part, reply):
                reply.close()
            return False
        if part.number in self._awaited:
            self._tell(part, reply)
        try:
            said = listen(reply, self._allowance, self._way.event_bytes)
            return all(self._inbox.put((part, one)) for one in said)
        finally:
            reply.close()

    def _tell(self, part: Part, head: "UpstreamReply | Exception") -> bool:
        """Tell what became of a part; False when nobody wants to know."""
        if part.number in self._awaited:
            self._awaited.discard(part.number)
            return self._heads.put(head)
        said = Broken(self._late(head)) if isinstance(head, Exception) else Refused(head)
        return self._inbox.put((part, [said]))

    def _late(self, error: Exception) -> Exception:
        """An error of a part that others were sent before: no other upstream must be asked after it."""
        if isinstance(error, UpstreamError) and error.kind in self._way.unsent:
            return _partly(error)
        return error


def _taken(inbox: Inbox[Item]) -> Item:
    try:
        return inbox.get()
    except Closed:
        raise UpstreamError("client_gone", "the call is over", bytes_received=True) from None


def _partly(error: UpstreamError) -> UpstreamError:
    what = f"one part of the call failed ({error}), others were sent"
    return UpstreamError("cut", what, bytes_received=True)
