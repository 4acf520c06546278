"""Answers whose body is here already: kept while another upstream is asked, or made by a plugin."""

from collections.abc import Iterator

from proxy.egress.reply import UpstreamReply
from proxy.errors import UpstreamError


class ReadyReply:
    """Has the interface of ``UpstreamReply``: an answer that no connection is needed for."""

    reused = False
    attempts = 0
    waited = 0.0

    def __init__(
        self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, address: str = ""
    ) -> None:
        self.status = status
        self.headers = headers
        self.address = address
        self._body = body

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


def hold(reply: UpstreamReply, most: int) -> ReadyReply:
    """An upstream's answer with its body, its connection free for others.

    Raises ``UpstreamError`` when the body is larger than ``most`` bytes or does not come.
    """
    try:
        found = ReadyReply(reply.status, reply.headers, reply.read(most), reply.address)
    finally:
        reply.close()
    found.reused, found.attempts, found.waited = reply.reused, reply.attempts, reply.waited
    return found
