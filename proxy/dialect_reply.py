"""An answer in a provider's own words, which speaks OpenAI to everything behind it."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from proxy.dialect import Dialect, Interpreter
from proxy.errors import UpstreamError
from proxy.jsonio import encode
from proxy.reading import cut, is_stream, peek, read_events, sse_event
from proxy.sse import DONE, Event, encode_event

if TYPE_CHECKING:
    from proxy.egress import UpstreamReply

log: Final = logging.getLogger("outgate.dialect")
T = TypeVar("T")

_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_EVENT_NAME: Final = re.compile(rb"(?:^|[\r\n])event:[ ]?([^\r\n]*)")
_PING: Final = b": ping\n\n"
_EMPTY: Final = (None, b"", b"null", DONE)
#: Headers that speak of the provider's own body.
_OF_THE_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-type", "transfer-encoding"}
)
#: Headers that OpenAI names otherwise.
_NAMES: Final = {"request-id": "x-request-id"}


class Asked(Struct, frozen=True):
    """What an answer must know of its call: the id where the provider gives none, and whether usage is wanted."""

    id: str
    model: str
    usage: bool


class TranslatedReply:
    """Has the interface of ``UpstreamReply``; its head is the provider's, its body is translated as it is read."""

    def __init__(
        self, reply: "UpstreamReply", dialect: Dialect, asked: Asked, event_bytes: int
    ) -> None:
        self._reply = reply
        self._dialect = dialect
        self._asked = asked
        self._event_bytes = event_bytes
        self._streams = is_stream(reply.status, reply.header("content-type"))
        media = "text/event-stream" if self._streams else "application/json"
        self.status = reply.status
        self.headers = (
            ("content-type", media),
            *(
                (_NAMES.get(name, name), value)
                for name, value in reply.headers
                if name not in _OF_THE_BODY
            ),
        )
        self.address = reply.address
        self.reused = reply.reused
        self.attempts = reply.attempts

    @property
    def waited(self) -> float:
        """Seconds that were spent in waiting for the body so far."""
        return self._reply.waited

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def read(self, limit: int) -> bytes:
        """The whole body; raises ``UpstreamError``, ``too_large`` for an answer beyond ``limit`` bytes."""
        return b"".join(self.pieces()) if self._streams else self._whole(self._reply.read(limit))

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes; raises ``UpstreamError``."""
        if self._streams:
            yield from self._streamed()
        else:
            yield self._whole(b"".join(self._reply.pieces()))

    def close(self) -> None:
        """As for the answer itself."""
        self._reply.close()

    def _whole(self, data: bytes) -> bytes:
        payload = peek(data)
        if self.status >= _ERROR:
            return _encoded({"error": told(self._dialect, self.status, payload)}, encode)
        if not isinstance(payload, dict):
            raise UpstreamError(
                "protocol", "the answer is no JSON object of the provider", bytes_received=True
            )
        whole = _heard(lambda: _completed(self._dialect.reply(payload), self._asked))
        return _encoded(whole, encode)

    def _streamed(self) -> Iterator[bytes]:
        """The events of the stream; it ends as the provider's did, and never better."""
        stream = _Stream(_heard(self._dialect.stream), self._asked)
        for events in read_events(self._reply, self._event_bytes):
            shown, broken = stream.see(events)
            if shown:
                yield shown
            if broken is not None:
                raise broken
            if stream.over:
                return
        raise cut()


class _Stream:
    """One stream under translation; ``over`` after the provider's last word, or its error."""

    def __init__(self, interpreter: Interpreter, asked: Asked) -> None:
        self._interpreter = interpreter
        self._usage = asked.usage
        self._head: dict[str, Any] = {
            "id": asked.id, "object": "chat.completion.chunk", "created": int(time.time()), "model": asked.model,
        }  # fmt: skip
        self.over = False

    def see(self, events: Iterable[Event]) -> tuple[bytes, UpstreamError | None]:
        """What events come to on the wire, up to the one that cannot be read."""
        shown: list[bytes] = []
        try:
            for event in events:
                shown.append(self._event(event))
                if self.over:
                    break
        except UpstreamError as error:
            return b"".join(shown), error
        return b"".join(shown), None

    def _event(self, event: Event) -> bytes:
        if event.data in _EMPTY:
            return _PING
        payload = peek(event.data or b"")
        if not isinstance(payload, dict):
            what = "an event of the stream is no JSON object"
            raise UpstreamError("protocol", what, bytes_received=True)
        name = _name(event)
        data = _heard(lambda: b"".join(map(self._chunk, self._interpreter.chunks(name, payload))))
        if self._interpreter.done and not self.over:
            self.over = True
            data += encode_event(DONE)
        # That the stream lives is all that is left of an event which says nothing that chats have.
        return data or _PING

    def _chunk(self, given: Mapping[str, Any]) -> bytes:
        if given.get("error") is not None:
            self.over = True
            return _encoded({"error": _error(given["error"])}, sse_event)
        for name in ("id", "model"):
            if isinstance(given.get(name), str):
                self._head[name] = given[name]
        choices = [_choice(choice) for choice in given.get("choices", ())]
        usage = given.get("usage") if self._usage else None
        if not choices and usage is None:
            return b""
        rest = {key: given[key] for key in given if key not in (*self._head, "choices", "usage")}
        counted = {"usage": usage} if self._usage else {}
        return _encoded({**self._head, **rest, "choices": choices, **counted}, sse_event)


def told(dialect: Dialect, status: int, payload: Any) -> dict[str, Any]:
    """The error of an answer, in OpenAI's words; one that the dialect cannot read is told by its status alone."""
    kind = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    known = {"message": f"The upstream answered {status}.", "type": kind}
    try:
        return _error(dialect.error(status, payload), **known)
    except Exception:
        log.exception("a dialect could not read an error of its provider")
        return _error({}, **known)


def _error(
    given: Mapping[str, Any],
    *,
    message: str = "The upstream failed.",
    type: str = "server_error",  # noqa: A002 - the field's name on the wire
) -> dict[str, Any]:
    said = {
        name: value
        for name, value in given.items()
        if name not in ("message", "type") or isinstance(value, str)
    }
    return {"message": message, "type": type, "param": None, "code": None, **said}


def _completed(given: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """A whole chat with what goes without saying."""
    head = {
        "id": asked.id, "object": "chat.completion", "created": int(time.time()), "model": asked.model,
    }  # fmt: skip
    choices = [
        {"index": index, "message": {}, "logprobs": None, "finish_reason": None, **choice}
        for index, choice in enumerate(given.get("choices", ()))
    ]
    return {**head, **given, "choices": choices}


def _choice(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "logprobs": None, "finish_reason": None, **given}


def _heard(read: Callable[[], T]) -> T:
    """What a dialect makes of an answer; whatever it stumbles over, the answer is one that cannot be read."""
    try:
        return read()
    except UpstreamError:
        raise
    except Exception as error:
        log.exception("a dialect could not read what its provider said")
        what = f"the answer is not in the provider's dialect ({type(error).__name__})"
        raise UpstreamError("protocol", what, bytes_received=True) from None


def _encoded(body: Mapping[str, Any], write: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    try:
        return write(body)
    except (TypeError, ValueError):  # a number or half a character that JSON cannot say
        what = "an answer holds what JSON cannot say"
        raise UpstreamError("protocol", what, bytes_received=True) from None


def _name(event: Event) -> str:
    found = _EVENT_NAME.search(event.raw)
    return found[1].decode(errors="replace").strip() if found else ""
