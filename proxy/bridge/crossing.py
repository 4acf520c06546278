"""Takes one completions call over: sends its chats, and gives one answer that speaks completions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy.bridge.chunks import Chunks
from proxy.bridge.fan import Fan, Heard
from proxy.bridge.listening import (
    Alive,
    Broken,
    Chunk,
    End,
    Refused,
    Said,
    Whole,
    is_error,
    is_stream,
    listen,
)
from proxy.bridge.plan import Part, Plan
from proxy.bridge.readers import error_of
from proxy.bridge.reply import BridgedReply
from proxy.bridge.settings import Bridge
from proxy.bridge.way import Allowance, Way
from proxy.bridge.whole import completion
from proxy.errors import UpstreamError
from proxy.jsonio import encode
from proxy.reading import peek, sse_event
from proxy.sse import DONE, encode_event

if TYPE_CHECKING:
    from proxy.egress import UpstreamReply

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_PING: Final = b": ping\n\n"
_LONGEST_ERROR: Final = 65_536


def must_cross(bridge: Bridge, paths: Mapping[str, str], endpoint: str) -> bool:
    """Whether a call takes the bridge: it cannot go as it is, or the operator does not want it to."""
    if endpoint != "completions" or "chat" not in paths:
        return False
    return bridge.always or endpoint not in paths


def cross(plan: Plan, way: Way) -> "BridgedReply | UpstreamReply":
    """The one answer to all chats of a plan.

    An answer with an error status is given as it came. Raises ``UpstreamError`` when a chat has no answer of use,
    ``InvalidRequest`` when they cannot be made into what was asked for.
    """
    return _alone(plan, way) if len(plan.parts) == 1 else _together(plan, way)


def _alone(plan: Plan, way: Way) -> "BridgedReply | UpstreamReply":
    """One chat needs no further thread."""
    part = plan.parts[0]
    reply = way.send(part, way.handle)
    if is_error(reply):
        return reply
    listened = listen(reply, Allowance(way.reply_bytes), way.event_bytes)
    try:
        return _answer(plan, [reply], ((part, said) for said in listened), reply.close)
    except BaseException:
        reply.close()
        raise


def _together(plan: Plan, way: Way) -> "BridgedReply | UpstreamReply":
    fan = Fan(way, plan.parts)
    try:
        fan.start()
        heads = fan.heads()
        if is_error(heads[0]):
            fan.close()
            return heads[0]
        return _answer(plan, heads, fan.heard(), fan.close)
    except BaseException:
        fan.close()
        raise


def _answer(
    plan: Plan,
    heads: "Sequence[UpstreamReply]",
    heard: Iterator[Heard],
    close: Callable[[], object],
) -> "BridgedReply | UpstreamReply":
    attempts = 1 + sum(head.attempts - 1 for head in heads)
    if any(map(is_stream, heads)):
        if plan.is_ranked:
            raise UpstreamError("protocol", "a stream came where the best was to be chosen")
        return BridgedReply(heads[0], _EVENTS, _streamed(plan, heard), close, attempts)
    replies = _gathered(plan, heard)
    if not isinstance(replies, list):
        close()
        return replies
    body = iter([_encoded(completion(plan, replies))])
    return BridgedReply(heads[0], _JSON, body, close, attempts)


# -- whole replies ---------------------------------------------------------------------------------


def _gathered(plan: Plan, heard: Iterable[Heard]) -> "list[Mapping[str, Any]] | UpstreamReply":
    """The replies in the order of their parts, or the answer of the first that was refused."""
    found: dict[int, Mapping[str, Any]] = {}
    for part, said in heard:
        match said[0]:
            case Refused(reply):
                return reply
            case Broken(error):
                raise error
            case Whole(payload):
                found[part.number] = payload
            case _:
                raise UpstreamError(
                    "protocol", "some chats came as streams, some did not", bytes_received=True
                )
    return [found[part.number] for part in plan.parts]


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return encode(body)
    except ValueError:
        raise _not_strict() from None


def _not_strict() -> UpstreamError:
    what = "an answer holds what JSON cannot say"
    return UpstreamError("protocol", what, bytes_received=True)


# -- streams ---------------------------------------------------------------------------------------


def _streamed(plan: Plan, heard: Iterator[Heard]) -> Iterator[bytes]:
    """The events of the one stream; it ends as the chats ended, and never better."""
    chunks = Chunks(plan)
    all_done = True
    for part, said in heard:
        data, failed = _shown(chunks, part, said)
        if data:
            yield data
        if failed:
            return
        if isinstance(said[-1], End):
            chunks.end(part, done=said[-1].done)
            all_done = all_done and said[-1].done
    yield b"".join(map(_event, chunks.last())) + (encode_event(DONE) if all_done else b"")


def _shown(chunks: Chunks, part: Part, said: Sequence[Said]) -> tuple[bytes, bool]:
    """What a part's words come to on the wire, and whether they end the call with an error."""
    shown: list[bytes] = []
    for one in said:
        match one:
            case Chunk(payload) | Whole(payload) if (error := error_of(payload)) is not None:
                return b"".join([*shown, _event({"error": error})]), True
            case Refused(reply):
                return b"".join([*shown, _event(_told(reply))]), True
            case Broken(broken):
                raise broken
            case Chunk(payload):
                shown.append(_of(chunks, part, payload))
            case Whole():
                shown += [_of(chunks, part, chunk.payload) for chunk in one.chunks()]
            case Alive():
                shown.append(_PING)
    return b"".join(shown), False


def _of(chunks: Chunks, part: Part, payload: Mapping[str, Any]) -> bytes:
    events = b"".join(map(_event, chunks.of(part, payload)))
    return events or (_PING if chunks.is_alive(payload) else b"")


def _event(payload: Mapping[str, Any]) -> bytes:
    try:
        return sse_event(payload)
    except ValueError:
        raise _not_strict() from None


def _told(reply: "UpstreamReply") -> Mapping[str, Any]:
    """The error that a chat was refused with, when other chats have begun to answer."""
    try:
        body = peek(reply.read(_LONGEST_ERROR))
    finally:
        reply.close()
    error = error_of(body) if isinstance(body, dict) else None
    if error is None:
        what = f"one part of the call was answered with status {reply.status}"
        raise UpstreamError("cut", what, bytes_received=True)
    return {"error": error}
