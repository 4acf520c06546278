"""Brings the upstream's answer back to the caller: byte for byte, unless a plugin or policy changes it."""

from collections.abc import Iterator
from typing import Any, Final

from proxy import chain, jsonio, reading, stream
from proxy.accounting import account
from proxy.egress import UpstreamReply
from proxy.errors import UpstreamError, as_api_error
from proxy.exchange import REMOVED_HEADER, Answer, Denied, Exchange, Outgoing
from proxy.frozen import freeze
from proxy.metering import unasked
from proxy.model import Call, Deny, Outcome, Reply, Upstream
from proxy.parts import Parts
from proxy.per_token import PER_TOKEN
from proxy.policy import Refused
from proxy.reading import WholeStream, cut, is_stream, peek, read_events, sse_event, strict
from proxy.review import Review
from proxy.sse import DONE, Event, encode_event
from proxy.steps import fault_denial
from proxy.stream import StreamState
from proxy.streaming import StreamReview
from proxy.veil import Veil

#: Reply headers that are passed back, by name and by beginning; everything else stays here.
RETURNED: Final = frozenset(
    {
        "content-type",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-request-id",
        "apim-request-id",
    }
)
RETURNED_PREFIXES: Final = ("openai-", "x-ratelimit-", "ratelimit-")
_CLIENT_ERROR: Final = 400
_PING: Final = b": ping\n\n"
_EMPTY: Final = (None, b"", b"null")
_JSON: Final = ("content-type", "application/json")

Headers = list[tuple[str, str]]


class Relay:
    """Answers a call with what its upstream said."""

    def __init__(self, parts: Parts) -> None:
        self._limits = parts.config.limits
        self._rewriters = parts.chain.rewrite_response
        self._policy = parts.policy
        self._streaming: set[str] = set()

    def answer(
        self, upstream: Upstream, call: Call, reply: UpstreamReply, exchange: Exchange
    ) -> Answer:
        """The answer to send; raises ``UpstreamError`` or ``ApiError`` while nothing of it was sent yet."""
        veil = Veil(upstream.credential, exchange.credentials.provider)
        review = self._review_of(call, exchange)
        try:
            headers = review.headers(returned_headers(reply, upstream, veil))
        except Refused as refused:
            raise Denied(*refused.refusal) from None
        exchange.facts["upstream_request_id"] = dict(headers).get("x-request-id")
        if not is_stream(reply.status, reply.header("content-type")):
            return self._whole(call, reply, headers, veil, exchange)
        self._streaming.add(exchange.id)
        exchange.on_finish(lambda: self._streaming.discard(exchange.id))
        headers += [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        if self._is_rewritten(call):
            pieces = self._buffered(call, reply, veil, exchange)
        elif review.is_needed:
            headers += [(REMOVED_HEADER, ", ".join(sorted(PER_TOKEN)))] if review.may_change else []
            pieces = self._passed(reply, veil, exchange, StreamReview(review))
        else:
            pieces = self._passed(reply, veil, exchange)
        return _answer(reply.status, headers, pieces, exchange)

    @property
    def streams(self) -> int:
        """How many streams are on their way."""
        return len(self._streaming)

    def _is_rewritten(self, call: Call) -> bool:
        """Whether a plugin may change or refuse this reply, so that it must be complete first."""
        return any(step.scope is None or step.scope.covers_call(call) for step in self._rewriters)

    def _review_of(self, call: Call, exchange: Exchange) -> Review:
        return Review(self._policy, call, exchange.vault, exchange.trail)

    # -- complete replies ------------------------------------------------------------------------

    def _whole(
        self, call: Call, reply: UpstreamReply, headers: Headers, veil: Veil, exchange: Exchange
    ) -> Answer:
        data = veil.data(reply.read(self._limits.reply_bytes))
        state = StreamState()
        payload = peek(data)
        state.see(payload)
        if not isinstance(payload, dict) and reply.status < _CLIENT_ERROR:
            raise UpstreamError("protocol", "success was announced, but the body is no JSON object")
        if exchange.observation is not None:
            exchange.observation.whole(reply.status, data)
        exchange.answered(reply.status, data)
        if self._is_rewritten(call) or self._review_of(call, exchange).is_needed:
            reviewed = self._reviewed(call, reply, data, exchange)
            if reviewed is not data:
                data = reviewed
                state = StreamState()  # what the caller is told is what is recorded
                state.see(peek(data))
                headers = [_JSON, *((n, value) for n, value in headers if n != "content-type")]
        exchange.shows(data)
        account(exchange, state, veil)
        headers.append(("content-length", str(len(data))))
        outcome: Outcome = "ok" if reply.status < _CLIENT_ERROR else "upstream_error"
        return _answer(
            reply.status, headers, _settling(data, outcome, exchange, reply.status), exchange
        )

    def _reviewed(self, call: Call, reply: UpstreamReply, data: bytes, exchange: Exchange) -> bytes:
        """``data`` itself where nothing changes; an error that cannot be scanned is told in our words."""
        try:
            body = strict(data, self._limits.depth)
        except UpstreamError:
            if reply.status < _CLIENT_ERROR:
                raise
            return jsonio.encode(reading.unreadable(reply.status).body())
        reviewed = self._review(call, Reply(status=reply.status, body=body), exchange)
        return data if reviewed is body else jsonio.encode(reviewed)

    def _review(self, call: Call, reply: Reply, exchange: Exchange) -> Any:
        """The body after the response chain and the policy; raises ``Denied``."""
        result = chain.rewrite_response(self._rewriters, call, reply, exchange.trail)
        if isinstance(result, Deny):
            raise Denied(result, exchange.trail.verdicts[-1].plugin)
        if result.status != reply.status:
            raise Denied(fault_denial("rewrite_response"), "rewrite_response")
        if result.notes:
            exchange.call = call.note(**result.notes)
        review = self._review_of(call, exchange)
        body, refusal = review.whole(result.body)
        if refusal is not None:
            raise Denied(*refusal)
        exchange.facts["removed"] = tuple(sorted(review.removed))
        return body

    # -- streams ---------------------------------------------------------------------------------

    def _events(
        self, reply: UpstreamReply, veil: Veil, exchange: Exchange
    ) -> Iterator[list[Event]]:
        events, seen = read_events(reply, self._limits.event_bytes), exchange.observation
        return events if seen is None else seen.stream(reply.status, events, veil.data)

    def _passed(
        self,
        reply: UpstreamReply,
        veil: Veil,
        exchange: Exchange,
        review: StreamReview | None = None,
    ) -> Iterator[bytes]:
        """Pass every event on as it comes, and end as the upstream ended: never better."""
        state = StreamState()
        error: UpstreamError | None = None
        done = False
        yield b""  # the status line leaves before the first event comes
        try:
            for events in self._events(reply, veil, exchange):
                exchange.facts["events"] = exchange.facts.get("events", 0) + len(events)
                shown = _shown(events, state, review, hide_usage=exchange.hides_usage)
                done = events[-1].data == DONE
                yield veil.data(shown)
                if review is not None and review.refusal is not None:
                    break
        except UpstreamError as broken:
            error = broken
        finally:
            account(exchange, state if review is None else review.state, veil)
            exchange.facts["completion_characters"] = state.characters  # what was paid for
            exchange.facts["removed"] = review.removed if review is not None else ()
        if error is None and not (done or state.complete or state.error is not None):
            error = cut()
        if review is not None and not (review.refusal or done or error or state.error):
            yield veil.data(_rest(review))
        if review is not None and review.refusal is not None:
            deny, plugin = review.refusal
            exchange.finish("denied", reply.status, code=deny.code, denied_by=plugin)
            return
        if error is not None:
            yield from _broken(error, exchange, reply.status)
        else:
            exchange.finish("ok" if state.error is None else "upstream_error", reply.status)

    def _buffered(
        self, call: Call, reply: UpstreamReply, veil: Veil, exchange: Exchange
    ) -> Iterator[bytes]:
        """Read the stream to its end, have the complete reply reviewed, and send it as a stream again."""
        pieces = self._events(reply, veil, exchange)
        read = WholeStream(event for events in pieces for event in events)
        body = freeze(stream.assemble(call.endpoint, read.payloads(self._limits.depth)))
        if read.state.error is not None or not (read.state.complete or read.done):
            raise cut()
        reviewed = self._review(call, Reply(status=reply.status, body=body), exchange)
        state = read.state
        exchange.facts["events"] = read.count
        data = bytes(read.raw)
        # Whatever an event says beyond the whole was not looked at, so where somebody looks the whole is sent.
        hides_usage = exchange.hides_usage
        if reviewed is not body or hides_usage or self._review_of(call, exchange).is_needed:
            options = call.body.get("stream_options") or {}
            usage = bool(options.get("include_usage")) and not hides_usage
            chunks = stream.explode(call.endpoint, reviewed, include_usage=usage)
            data = b"".join([*map(sse_event, chunks), encode_event(DONE)])
            exchange.facts["events"] = len(chunks) + 1
            state = StreamState()  # what the caller is told is what is recorded
            state.see(reviewed)
        account(exchange, state, veil)
        return _settling(veil.data(data), "ok", exchange, reply.status)


def _shown(
    events: list[Event], state: StreamState, review: StreamReview | None, *, hide_usage: bool
) -> bytes:
    """The events as they may be sent: byte for byte, unless somebody reviews them."""
    pieces: list[bytes] = []
    for told in events:
        payload = None if told.data is None else peek(told.data)
        state.see(payload)
        event, payload = unasked(told, payload) if hide_usage else (told, payload)
        if event is None:
            if review is not None:
                review.state.see(payload)
            continue
        pieces.append(event.raw if review is None else _reviewed_event(event, payload, review))
        if review is not None and review.refusal is not None:
            break
    return b"".join(pieces)


def _reviewed_event(event: Event, payload: Any, review: StreamReview) -> bytes:
    if event.data == DONE:
        rest = _rest(review)
        return rest if review.refusal is not None else rest + encode_event(DONE)
    if isinstance(payload, dict):
        shown = review.see(payload)
    elif event.data in _EMPTY or not review.may_change:
        shown = []
    else:
        what = "an event of the stream is no JSON object"
        raise UpstreamError("protocol", what, bytes_received=True)
    if review.refusal is None and not review.may_change:
        return event.raw
    # A comment could say anything; that the stream lives is all that is passed on.
    return _events_of(shown, review) or _PING


def _rest(review: StreamReview) -> bytes:
    """What a review still holds when nothing more comes."""
    shown = review.finish()
    return _events_of(shown, review) if review.may_change or review.refusal is not None else b""


def _events_of(chunks: list[dict[str, Any]], review: StreamReview) -> bytes:
    try:
        data = b"".join(map(sse_event, chunks))
    except ValueError:  # a number or half a character that JSON cannot say
        what = "an event of the stream is no strict JSON"
        raise UpstreamError("protocol", what, bytes_received=True) from None
    return data if review.refusal is None else data + encode_event(DONE)


def returned_headers(reply: UpstreamReply, upstream: Upstream, veil: Veil) -> Headers:
    """The upstream's headers that the caller may see, in order."""
    listed = {*RETURNED, *map(str.lower, upstream.reply_headers)}
    return [
        (name, veil.text(value))
        for name, value in reply.headers
        if name in listed or name.startswith(RETURNED_PREFIXES)
    ]


def _answer(status: int, headers: Headers, pieces: Iterator[bytes], exchange: Exchange) -> Answer:
    return Answer(status, exchange.signed(headers), Outgoing(pieces, exchange, status))


def _settling(data: bytes, outcome: Outcome, exchange: Exchange, status: int) -> Iterator[bytes]:
    yield data
    exchange.finish(outcome, status)  # reached only when the server took the data


def _broken(error: UpstreamError, exchange: Exchange, status: int) -> Iterator[bytes]:
    """Say on the wire that the stream is not complete; there will be no ``[DONE]``."""
    exchange.failed(error)
    if error.kind == "client_gone":
        exchange.finish("client_gone", status)
        return
    told = as_api_error(error)
    yield sse_event(told.body())
    exchange.finish("truncated", status, code=told.code)
