"""Undoes a content coding in pieces of bounded size, so that a small answer cannot become a large memory."""

import zlib
from collections.abc import Iterator
from typing import Final

from proxy.errors import UpstreamError

PIECE: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


class Decoder:
    """One gzip or deflate coding (RFC 9110 section 8.4.1); every piece given is at most 64 KiB."""

    def __init__(self, coding: str) -> None:
        self._zlib: zlib._Decompress | None = (
            zlib.decompressobj(_GZIP) if "gzip" in coding else None
        )

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What ``piece`` decodes to, at once and in order.

        Raises:
            UpstreamError: ``encoding`` when it is not of that coding, or goes on after its end.

        """
        if self._zlib is None:
            self._zlib = zlib.decompressobj(_deflate_bits(piece))
        while piece:
            if self._zlib.eof:
                raise _trailing()
            try:
                text = self._zlib.decompress(piece, PIECE)
            except zlib.error as error:
                raise UpstreamError(
                    "encoding", "the answer's compression is broken", bytes_received=True
                ) from error
            if self._zlib.unused_data:
                raise _trailing()
            piece = self._zlib.unconsumed_tail
            if text:
                yield text

    def finish(self) -> None:
        """Raise ``UpstreamError`` of kind ``cut`` when the coding has not come to its end."""
        if self._zlib is not None and not self._zlib.eof:
            raise UpstreamError(
                "cut", "the compressed answer ended before its end", bytes_received=True
            )


def _trailing() -> UpstreamError:
    return UpstreamError("encoding", "bytes follow the compressed answer", bytes_received=True)


def _deflate_bits(first: bytes) -> int:
    # "deflate" means zlib's format, yet some servers send it without its two bytes of head.
    return zlib.MAX_WBITS if first[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS


def decoder_for(coding: str | None) -> Decoder | None:
    """The decoder for a Content-Encoding, None when there is nothing to undo.

    Raises:
        UpstreamError: ``encoding`` for any other coding or more than one: we asked for none.

    """
    name = (coding or "identity").strip().lower()
    if name == "identity":
        return None
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UpstreamError(
            "encoding",
            "the answer has a content coding that was not asked for",
            bytes_received=True,
        )
    return Decoder(name)
