"""Takes apart what one chat answers, a stream or a whole reply, into what it says."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from proxy.bridge.readers import is_completion, objects
from proxy.bridge.way import Allowance
from proxy.errors import UpstreamError
from proxy.model import Endpoint
from proxy.reading import peek, read_events
from proxy.sse import DONE, Event
from proxy.stream import explode

if TYPE_CHECKING:
    from proxy.egress import UpstreamReply

_ERROR: Final = 400
_EMPTY: Final = (b"", b"null")


class Chunk(Struct, frozen=True):
    """One chunk of a chat's stream."""

    payload: Mapping[str, Any]


class Whole(Struct, frozen=True):
    """A complete reply."""

    payload: Mapping[str, Any]

    def chunks(self) -> Iterator[Chunk]:
        """The same as a stream would say it."""
        first = next(objects(self.payload.get("choices")), {})
        kind: Endpoint = "completions" if is_completion(first) else "chat"
        return map(Chunk, explode(kind, self.payload, include_usage=True))


class Alive(Struct, frozen=True):
    """Nothing but a sign of life."""


class End(Struct, frozen=True):
    """A chat is over; ``done`` tells whether it said so."""

    done: bool


class Refused(Struct, frozen=True):
    """A chat was answered with an error status; the answer is still to be read."""

    reply: "UpstreamReply"


class Broken(Struct, frozen=True):
    """A chat came to nothing, or broke off."""

    error: Exception


Said: TypeAlias = Chunk | Whole | Alive | End | Refused | Broken


def is_error(reply: "UpstreamReply") -> bool:
    """Whether an answer's status says that the call failed."""
    return reply.status >= _ERROR


def is_stream(reply: "UpstreamReply") -> bool:
    """Whether an answer comes in events: it is the answer that decides, not what was asked for."""
    media = (reply.header("content-type") or "").split(";")[0].strip().lower()
    return media == "text/event-stream"


def listen(reply: "UpstreamReply", allowance: Allowance, event_bytes: int) -> Iterator[list[Said]]:
    """What an answer says, as it comes; the last thing is ``End``. Raises ``UpstreamError``."""
    metered = allowance.of(reply)
    if not is_stream(reply):
        yield [Whole(_object(b"".join(metered.pieces()), "the body")), End(done=True)]
        return
    done = False
    for events in read_events(metered, event_bytes):
        done = events[-1].data == DONE
        if said := [_said(event) for event in (events[:-1] if done else events)]:
            yield said
    yield [End(done)]


def _said(event: Event) -> Said:
    if event.data is None or event.data in _EMPTY:
        return Alive()
    return Chunk(_object(event.data, "an event of the stream"))


def _object(data: bytes, what: str) -> Mapping[str, Any]:
    payload = peek(data)
    if not isinstance(payload, dict):
        raise UpstreamError("protocol", f"{what} is no JSON object", bytes_received=True)
    return payload
