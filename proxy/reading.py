"""Reads what an upstream says: the events of a stream, and JSON for those who look and those who decide."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from proxy import jsonio
from proxy.errors import ApiError, InvalidRequest, UpstreamError
from proxy.sse import DONE, Event, EventReader, encode_event
from proxy.stream import StreamState

#: Events without a payload: comments, and what some servers send to keep a connection alive.
_EMPTY: Final = (None, b"", b"null", DONE)

_ERROR: Final = 400


def is_stream(status: int, media: str | None) -> bool:
    """Whether an answer is a stream: its content type says so, whatever was asked for."""
    kind = (media or "").split(";")[0].strip().lower()
    return kind == "text/event-stream" and status < _ERROR


class Body(Protocol):
    """Whatever an upstream's answer is read from."""

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; raises ``UpstreamError``."""
        ...


def read_events(reply: Body, limit: int) -> Iterator[list[Event]]:
    """The events of each piece that came, up to and with the first ``[DONE]``; raises ``UpstreamError``.

    ``limit`` is the most bytes one event may have.
    """
    reader = EventReader(limit)
    for piece in reply.pieces():
        events = reader.feed(piece)
        last = next((i for i, event in enumerate(events, 1) if event.data == DONE), None)
        if events:
            yield events[:last]
        if last is not None:
            return
    rest = reader.rest().strip()
    if rest in (b"data: " + DONE, b"data:" + DONE):  # said, but not ended by a blank line
        yield reader.feed(b"\n\n")[:1]
    elif rest and not rest.startswith(b":"):
        raise cut()


class WholeStream:
    """A stream that is read to its end: its bytes, and its payloads one by one."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = events
        self.raw = bytearray()
        self.count = 0
        self.done = False
        self.state = StreamState()

    def payloads(self, depth: int) -> Iterator[Any]:
        """Every payload, read strictly; raises ``UpstreamError``."""
        for event in self._events:
            self.raw += event.raw
            self.count += 1
            self.done = event.data == DONE
            if event.data not in _EMPTY:
                payload = strict(event.data or b"", depth)
                self.state.see(payload)
                yield payload


def peek(data: bytes) -> Any:
    """What a reply says, for accounting only: lenient as clients are, and None where it is no JSON."""
    for read in (msgspec.json.decode, json.loads):
        try:
            return read(data)
        except (ValueError, RecursionError):
            continue
    return None


def strict(data: bytes, depth: int) -> Any:
    """What a reply says, for those who decide about it: read as a request is; raises ``UpstreamError``."""
    try:
        return jsonio.decode(data, depth=depth)
    except InvalidRequest as error:
        raise UpstreamError(
            "protocol", f"the reply is no strict JSON: {error.message}", bytes_received=True
        ) from None


def sse_event(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return encode_event(jsonio.encode(payload))


def cut() -> UpstreamError:
    """The error of a stream that is not complete."""
    return UpstreamError("cut", "the stream ended without its last event", bytes_received=True)


def unreadable(status: int) -> ApiError:
    """What is told instead of an upstream's error that nobody could look at."""
    return ApiError(
        f"The upstream answered {status}, in a form that is not passed on unread.",
        code="upstream_error",
    )
