"""An upstream's answer: its head at once, its body in pieces as they come."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from proxy.egress.adapter import PinnedResponse
from proxy.egress.decode import PIECE, Decoder, decoder_for
from proxy.egress.faults import FAULTS, ended, explain
from proxy.errors import UpstreamError

_AT_ONCE: Final = 0.0


class UpstreamReply:
    """The answer to one call.

    Attributes:
        status: the upstream's status code, never 1xx or 3xx.
        headers: names in lower case, in the upstream's order, repeated fields repeated.
        address: ``ip:port`` of the peer (of the outbound proxy, where there is one).
        reused: whether the connection had served another call before.
        attempts: 2 when a dead pooled connection had to be replaced, else 1.
        waited: seconds spent in waiting for the body so far.

    """

    def __init__(self, response: PinnedResponse, limit: int) -> None:
        raw = response.raw
        self._raw = raw
        self._attempt = response.attempt
        self._answer = raw.head
        self._limit = limit
        self._closed = False
        self.status = raw.status
        self.headers = self._answer.fields
        self.address = response.attempt.address
        self.reused = response.attempt.reused
        self.attempts = response.attempts
        self.waited = 0.0

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def read(self, limit: int) -> bytes:
        """The whole decoded body.

        Raises:
            UpstreamError: ``too_large`` beyond ``limit`` bytes, and whatever ``pieces`` raises.

        """
        announced = self._answer.length
        if announced is not None and announced > limit:
            self.close()
            raise _too_large(limit)
        return b"".join(self._within(limit))

    def pieces(self) -> Iterator[bytes]:
        """The decoded body, each piece as soon as it is there, none larger than 64 KiB.

        A body without a length that the upstream cuts looks complete: judge it by its content.

        Raises:
            UpstreamError: ``cut``, ``timeout_idle``, ``protocol``, ``encoding``, ``too_large``
                beyond ``reply_bytes``, or the reason for which the call was cancelled.

        """
        return self._within(self._limit)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._closed:
            return
        self._closed = True
        if self._answer.chunked and not self._answer.isclosed():
            self._finish()
        self._drop()

    def abort(self) -> None:
        """Close the connection without another look at the body."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        self._raw.close()
        self._raw.release_conn()

    def _finish(self) -> None:
        # A reader that stopped at "[DONE]" has often left only the last chunk, which is here.
        self._attempt.handle.set_read_timeout(_AT_ONCE)
        # TypeError: where nothing is there yet, http.client measures the None it is given.
        with contextlib.suppress(*FAULTS, TypeError):
            self._raw.read1(1)

    def _within(self, limit: int) -> Iterator[bytes]:
        size = 0
        try:
            for piece in self._decoded():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                yield piece
        finally:
            self.close()

    def _decoded(self) -> Iterator[bytes]:
        decoder: Decoder | None = decoder_for(self.header("content-encoding"))
        if decoder is None:
            yield from self._wire()
            return
        fed = False
        for piece in self._wire():
            fed = True
            yield from decoder.feed(piece)
        if fed:
            decoder.finish()

    def _wire(self) -> Iterator[bytes]:
        """The body as it comes off the wire, without its framing."""
        reason = None
        try:
            while piece := self._timed_read():
                yield piece
        except FAULTS as error:
            raise explain(error, self._attempt) from None
        if self._answer.length is None and not self._answer.chunked:
            # The end of such a body is the end of the connection: ours, if the call was cancelled.
            reason = self._attempt.handle.reason
        if reason is not None:
            raise ended(reason, received=True)

    def _timed_read(self) -> bytes:
        started = time.perf_counter()
        try:
            return self._raw.read1(PIECE)
        finally:
            self.waited += time.perf_counter() - started


def _too_large(limit: int) -> UpstreamError:
    return UpstreamError(
        "too_large", f"the answer is larger than {limit} bytes", bytes_received=True
    )
