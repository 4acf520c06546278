"""Brings the upstream's answer back to the caller: byte for byte, unless a plugin or policy changes it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from proxy import chain, jsonio, policy, stream
from proxy.egress import UpstreamReply
from proxy.errors import InvalidRequest, UpstreamError, as_api_error
from proxy.exchange import Answer, Denied, Exchange, Outgoing
from proxy.frozen import freeze
from proxy.model import Call, Deny, Outcome, Reply, Upstream, Usage
from proxy.parts import Parts
from proxy.policy import Rules
from proxy.sse import DONE, Event, EventReader
from proxy.stream import StreamState

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


class Relay:
    """Answers a call with what its upstream said."""

    def __init__(self, parts: Parts) -> None:
        self._limits = parts.config.limits
        self._rewriters = parts.chain.rewrite_response
        self._watches = parts.watches
        self._rules = Rules("response", parts.config.policy.response, "allow")

    def answer(
        self, upstream: Upstream, call: Call, reply: UpstreamReply, exchange: Exchange
    ) -> Answer:
        """The answer to send; raises ``UpstreamError`` or ``ApiError`` while nothing of it was sent yet."""
        headers = returned_headers(reply, upstream)
        if not _is_stream(reply):
            return self._whole(call, reply, headers, exchange)
        headers += [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        pieces = (
            self._buffered(call, reply, exchange)
            if self._must_see(call)
            else self._passed(reply, exchange)
        )
        return Answer(
            reply.status, exchange.signed(headers), Outgoing(pieces, exchange, reply.status)
        )

    def _must_see(self, call: Call) -> bool:
        """Whether somebody may change or refuse this reply, so that it must be complete first."""
        return any(step.scope.covers_call(call) for step in self._rewriters) or bool(
            self._rules.table and any(watch.scope.covers_call(call) for watch in self._watches)
        )

    # -- complete replies ------------------------------------------------------------------------

    def _whole(
        self, call: Call, reply: UpstreamReply, headers: list[tuple[str, str]], exchange: Exchange
    ) -> Answer:
        data = reply.read(self._limits.reply_bytes)
        state = StreamState()
        payload = _peek(data)
        state.see(payload)
        if not isinstance(payload, dict) and reply.status < _CLIENT_ERROR:
            raise UpstreamError("protocol", "success was announced, but the body is no JSON object")
        if self._must_see(call):
            data = self._reviewed(call, reply, data, exchange)
        _account(exchange, state)
        outcome: Outcome = "ok" if reply.status < _CLIENT_ERROR else "upstream_error"
        headers.append(("content-length", str(len(data))))

        def pieces() -> Iterator[bytes]:
            yield data
            exchange.finish(outcome, reply.status)  # reached only when the server took the data

        return Answer(
            reply.status, exchange.signed(headers), Outgoing(pieces(), exchange, reply.status)
        )

    def _reviewed(self, call: Call, reply: UpstreamReply, data: bytes, exchange: Exchange) -> bytes:
        body = _strict(data, self._limits.depth)
        reviewed = self._review(call, Reply(status=reply.status, body=body), exchange)
        return data if reviewed is body else jsonio.encode(reviewed)

    def _review(self, call: Call, reply: Reply, exchange: Exchange) -> Any:
        """The body after the response chain and the policy; raises ``Denied``."""
        result = chain.rewrite_response(self._rewriters, call, reply, exchange.trail)
        if isinstance(result, Deny):
            raise Denied(result, exchange.trail.verdicts[-1].plugin)
        if result.status != reply.status:
            raise Denied(chain.fault_denial("rewrite_response"), "rewrite_response")
        if not self._rules.table:
            return result.body
        body, refusal = policy.judge(call, result.body, self._watches, self._rules, exchange.trail)
        if refusal is not None:
            raise Denied(*refusal)
        return body

    # -- streams ---------------------------------------------------------------------------------

    def _passed(self, reply: UpstreamReply, exchange: Exchange) -> Iterator[bytes]:
        """Pass every event on as it comes, and end as the upstream ended: never better."""
        state = StreamState()
        error: UpstreamError | None = None
        done = False
        yield b""  # the status line leaves before the first event comes
        try:
            for events in self._events(reply):
                for event in events:
                    _see(state, event)
                exchange.facts["events"] = exchange.facts.get("events", 0) + len(events)
                yield b"".join(event.raw for event in events)
                done = events[-1].data == DONE
        except UpstreamError as broken:
            error = broken
        finally:
            _account(exchange, state)
        if error is None and not (done or state.complete or state.error is not None):
            error = UpstreamError(
                "cut", "the stream ended without its last event", bytes_received=True
            )
        if error is not None:
            yield from self._broken(error, exchange, reply.status)
        else:
            exchange.finish("ok" if state.error is None else "upstream_error", reply.status)

    def _buffered(self, call: Call, reply: UpstreamReply, exchange: Exchange) -> Iterator[bytes]:
        """Read the stream to its end, have the complete reply reviewed, and send it as a stream again."""
        state = StreamState()
        events = [event for some in self._events(reply, self._limits.reply_bytes) for event in some]
        payloads = [
            _strict(event.data, self._limits.depth)
            for event in events
            if event.data not in (None, b"null", DONE)
        ]
        for payload in payloads:
            state.see(payload)
        if state.error is not None or not (
            state.complete or (events[-1:] and events[-1].data == DONE)
        ):
            raise UpstreamError("cut", "the stream ended with an error or without its last event")
        body = freeze(stream.assemble(call.endpoint, payloads))
        reviewed = self._review(call, Reply(status=reply.status, body=body), exchange)
        raws = [event.raw for event in events]
        if reviewed is not body:
            options = call.body.get("stream_options") or {}
            chunks = stream.explode(
                call.endpoint, reviewed, include_usage=bool(options.get("include_usage"))
            )
            raws = [*map(sse_event, chunks), b"data: " + DONE + b"\n\n"]
        _account(exchange, state)
        exchange.facts["events"] = len(raws)
        return _settling(raws, exchange, reply.status)

    def _events(self, reply: UpstreamReply, limit: int | None = None) -> Iterator[list[Event]]:
        """The events of each piece that came, up to and with the first ``[DONE]``."""
        reader = EventReader(self._limits.event_bytes)
        size = 0
        for piece in reply.pieces():
            size += len(piece)
            if limit is not None and size > limit:
                raise UpstreamError(
                    "too_large", f"the stream is longer than {limit} bytes", bytes_received=True
                )
            events = reader.feed(piece)
            last = next((i for i, event in enumerate(events, 1) if event.data == DONE), None)
            if events:
                yield events[:last]
            if last is not None:
                return
        if reader.rest().strip() in (
            b"data: " + DONE,
            b"data:" + DONE,
        ):  # said, but not ended by a blank line
            yield reader.feed(b"\n\n")

    def _broken(self, error: UpstreamError, exchange: Exchange, status: int) -> Iterator[bytes]:
        """Say on the wire that the stream is not complete; there will be no ``[DONE]``."""
        if error.kind != "client_gone":
            told = as_api_error(error)
            yield sse_event(told.body())
            exchange.finish("truncated", status, code=told.code)
        else:
            exchange.finish("client_gone", status)


def sse_event(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + jsonio.encode(payload) + b"\n\n"


def returned_headers(reply: UpstreamReply, upstream: Upstream) -> list[tuple[str, str]]:
    """The upstream's headers that the caller may see, in order."""
    return [
        (name, value)
        for name, value in reply.headers
        if name in RETURNED or name.startswith(RETURNED_PREFIXES) or name in upstream.reply_headers
    ]


def _settling(pieces: Iterable[bytes], exchange: Exchange, status: int) -> Iterator[bytes]:
    yield from pieces
    exchange.finish("ok", status)


def _is_stream(reply: UpstreamReply) -> bool:
    return (reply.header("content-type") or "").split(";")[0].strip().lower() == "text/event-stream"


def _peek(data: bytes) -> Any:
    """The reply for accounting only: lenient, and None where it is no JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _strict(data: bytes | None, depth: int) -> Any:
    try:
        return jsonio.decode(data or b"", depth=depth)
    except InvalidRequest as error:
        raise UpstreamError(
            "protocol", f"the reply is no strict JSON: {error.message}", bytes_received=True
        ) from None


def _see(state: StreamState, event: Event) -> None:
    if event.data is not None:
        state.see(_peek(event.data))


def _account(exchange: Exchange, state: StreamState) -> None:
    """Keep what the record tells of the answer; counts that are no integers are left out."""
    counts = {name: (state.usage or {}).get(name) for name in Usage.__struct_fields__}
    if state.usage:
        known = {name: count for name, count in counts.items() if type(count) is int}
        exchange.facts["usage"] = Usage(**known)
    reasons = (reason for _, reason in sorted(state.finish_reasons.items()) if reason)
    exchange.facts["finish_reasons"] = tuple(map(str, reasons))
