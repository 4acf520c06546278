"""An answer that is kept while another upstream is asked, and passed on if none has a better one."""

from collections.abc import Iterator

from proxy.egress.reply import UpstreamReply
from proxy.errors import UpstreamError


class HeldReply:
    """Has the interface of ``UpstreamReply``; the connection is free, the body is here.

    Raises ``UpstreamError`` when the body is larger than ``most`` bytes or does not come.
    """

    def __init__(self, reply: UpstreamReply, most: int) -> None:
        try:
            self._body = reply.read(most)
        finally:
            reply.close()
        self.status = reply.status
        self.headers = reply.headers
        self.address = reply.address
        self.reused = reply.reused
        self.attempts = reply.attempts
        self.waited = reply.waited

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def read(self, limit: int) -> bytes:
        """The whole body; raises ``UpstreamError``, ``too_large`` beyond ``limit`` bytes."""
        if len(self._body) > limit:
            raise UpstreamError("too_large", f"the answer is larger than {limit} bytes")
        return self._body

    def pieces(self) -> Iterator[bytes]:
        """The body, in one piece."""
        yield self._body

    def close(self) -> None:
        """Nothing is open."""
