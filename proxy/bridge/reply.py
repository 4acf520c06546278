"""The one answer to a call that went over the bridge: to everything behind it, an answer like any other."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from proxy.errors import UpstreamError

if TYPE_CHECKING:
    from proxy.egress import UpstreamReply

#: Headers that speak of a chat's own body.
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-type", "transfer-encoding"}
)


class BridgedReply:
    """Has the interface of ``UpstreamReply``; its head is that of the chat that answered first, its body is ours.

    ``attempts`` is one more than the connections that had to be replaced.
    """

    def __init__(
        self,
        head: "UpstreamReply",
        media: str,
        body: Iterator[bytes],
        close: Callable[[], object],
        attempts: int,
    ) -> None:
        self._body = body
        self._close = close
        self._head = head
        self.status = head.status
        self.headers = (
            ("content-type", media),
            *((name, value) for name, value in head.headers if name not in _OF_THE_BODY),
        )
        self.address = head.address
        self.reused = head.reused
        self.attempts = attempts

    @property
    def waited(self) -> float:
        """Seconds that were spent in waiting for the chat that answered first."""
        return self._head.waited

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def read(self, limit: int) -> bytes:
        """The whole body; raises ``UpstreamError``, ``too_large`` beyond ``limit`` bytes."""
        data = b"".join(self._body)
        if len(data) > limit:
            raise UpstreamError(
                "too_large", f"the answer is larger than {limit} bytes", bytes_received=True
            )
        return data

    def pieces(self) -> Iterator[bytes]:
        """The body as the chats say it; raises ``UpstreamError``."""
        return self._body

    def close(self) -> None:
        """End whatever of the chats is still under way; from any thread, and more than once."""
        self._close()
