"""What the bridge needs of the world: how a chat is sent, what its answer is read from, and what it may cost."""

import threading
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from proxy.bridge.plan import Part
from proxy.errors import UpstreamError

if TYPE_CHECKING:
    from proxy.egress import Handle, UpstreamReply


class Way(Struct, frozen=True, kw_only=True):
    """How the parts of one call reach their upstream.

    ``handle`` ends all of them. Sizes are in bytes: ``reply_bytes`` of all answers together, ``event_bytes`` of
    one event. ``unsent`` are the kinds of errors after which nothing can have arrived.
    """

    send: "Callable[[Part, Handle], UpstreamReply]"
    handle: "Handle"
    parallel: int
    reply_bytes: int
    event_bytes: int
    unsent: Collection[str]


class Allowance:
    """What all parts of a call may still answer together; used by their threads."""

    def __init__(self, most: int) -> None:
        """``most`` is in bytes."""
        self._most = self._left = most
        self._lock = threading.Lock()

    def of(self, reply: "UpstreamReply") -> "Metered":
        """``reply``, counted."""
        return Metered(reply, self)

    def take(self, size: int) -> None:
        """Count ``size`` bytes; raises ``UpstreamError`` when they are too many."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise UpstreamError(
                    "too_large",
                    f"the answers are larger than {self._most} bytes",
                    bytes_received=True,
                )


class Metered:
    """An answer whose bytes count against an allowance."""

    def __init__(self, reply: "UpstreamReply", allowance: Allowance) -> None:
        self._reply = reply
        self._allowance = allowance

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; raises ``UpstreamError``."""
        for piece in self._reply.pieces():
            self._allowance.take(len(piece))
            yield piece
