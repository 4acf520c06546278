"""Sends a call to one upstream, once: the path, the headers, the body, in whatever form that upstream takes."""

import time
from collections.abc import Mapping
from typing import Final, cast

from msgspec import Struct

from proxy import wire
from proxy.bridge.crossing import cross
from proxy.bridge.plan import Part, Plan, headers_of
from proxy.bridge.way import Way
from proxy.dialect_reply import TranslatedReply
from proxy.egress import Egress, Handle, UpstreamReply
from proxy.errand import Errand, errand, no_such_model
from proxy.errors import ConfigError, Unavailable, UpstreamError
from proxy.evidence import Evidence
from proxy.exchange import Exchange
from proxy.intake import Intake
from proxy.model import BODILESS, Call, Credentials, Provider, Timeouts, Upstream
from proxy.parts import Parts
from proxy.placeholders import spoken
from proxy.routing.faults import UNSENT
from proxy.signing import Sign

__all__ = ["Sender", "no_such_model"]

#: What is known of an answer, and forgotten when the call is sent once more.
_OF_AN_ANSWER: Final = ("upstream_address", "upstream_status", "upstream_seconds")


class _Line(Struct, frozen=True):
    """One upstream, for one errand; ``headers`` go with each of its requests."""

    upstream: Upstream
    provider: Provider
    sign: Sign | None
    errand: Errand
    method: str
    headers: Mapping[str, str]
    timeouts: Timeouts


class Sender:
    """Knows how each upstream is spoken to. One per process, shared by its threads.

    Raises ``ConfigError`` for an upstream whose requests could not be signed.
    """

    def __init__(self, parts: Parts, intake: Intake, evidence: Evidence) -> None:
        self._limits = parts.config.limits
        self._spoken = {
            name: spoken(parts.providers[upstream.provider], upstream.settings)
            for name, upstream in parts.upstreams.items()
        }
        self._signs = {
            name: _sign(self._spoken[name], upstream) for name, upstream in parts.upstreams.items()
        }
        self._egress = Egress(parts.upstreams.values(), parts.config.limits)
        self._intake = intake
        self._evidence = evidence

    def send(  # noqa: PLR0917 - where, what, and what goes with it
        self,
        upstream: Upstream,
        call: Call,
        sent: bytes,
        handle: Handle,
        exchange: Exchange,
        timeouts: Timeouts,
    ) -> UpstreamReply:
        """Have it on record that the call leaves, send it, and wait for the head of the answer.

        Raises ``UpstreamError``, or ``ApiError`` for a call that this upstream cannot be sent.
        """
        line = self._line(upstream, call, sent, exchange, timeouts)
        for stale in _OF_AN_ANSWER:
            exchange.facts.pop(stale, None)
        exchange.facts |= line.errand.facts
        exchange.facts["upstream"] = upstream.name
        exchange.facts["attempts"] = exchange.facts.get("attempts", 0) + 1
        self._evidence.leaving(exchange, call, sent)
        started = time.perf_counter()
        exchange.facts["sent_seconds"] = round(started - exchange.started, 6)
        try:
            reply = self._go(line, handle)
        except ValueError:
            # Nothing was sent. In a path only the model can be at fault, a header is the operator's.
            if call.endpoint != "model":
                raise
            raise no_such_model(call) from None
        finally:
            exchange.waited += time.perf_counter() - started
        _note_answer(exchange, reply, time.perf_counter() - started)
        return reply

    def close(self) -> None:
        """Close the connections that no call uses."""
        self._egress.close()

    def _line(
        self, upstream: Upstream, call: Call, sent: bytes, exchange: Exchange, timeouts: Timeouts
    ) -> _Line:
        provider, sign = self._spoken[upstream.name], self._signs[upstream.name]
        made = errand(upstream, provider, call, sent, self._intake.readable)
        if made.added:
            self._intake.judge(call, made.added, exchange)
        return _Line(
            upstream=upstream,
            provider=provider,
            sign=sign,
            errand=made,
            method="GET" if call.endpoint in BODILESS else "POST",
            headers=_headers(upstream, provider, call, exchange.credentials, sign),
            timeouts=timeouts,
        )

    def _go(self, line: _Line, handle: Handle) -> UpstreamReply:
        if line.errand.plan is None:
            return self._ask(line, line.errand.body, line.headers, handle)
        return self._over(line, line.errand.plan, handle)

    def _ask(
        self, line: _Line, body: bytes | None, headers: Mapping[str, str], handle: Handle
    ) -> UpstreamReply:
        """The answer to one request, in the words of OpenAI."""
        path = line.errand.path
        try:
            reply = self._egress.send(
                line.upstream, line.method, path, body, headers, handle,
                sign=line.sign, timeouts=line.timeouts,
            )  # fmt: skip
        except Unavailable as away:
            # What signs it: to a route that is as if the upstream were out of reach.
            raise UpstreamError("connect", f"it cannot be signed for: {away.message}") from None
        dialect, asked = line.provider.dialect, line.errand.asked
        if dialect is None or asked is None:
            return reply
        # It has the interface, and nothing behind it can tell: a translation itself knows no network.
        return cast(UpstreamReply, TranslatedReply(reply, dialect, asked, self._limits.event_bytes))

    def _over(self, line: _Line, plan: Plan, handle: Handle) -> UpstreamReply:
        """The answers of an upstream that is asked in parts, as one answer to the call."""

        def send(part: Part, own: Handle) -> UpstreamReply:
            return self._ask(line, part.body, headers_of(part, plan, line.headers), own)

        way = Way(
            send=send,
            handle=handle,
            parallel=line.upstream.bridge.parallel,
            reply_bytes=self._limits.reply_bytes,
            event_bytes=self._limits.event_bytes,
            unsent=UNSENT,
        )
        # As for a translation: the bridge itself knows no network.
        return cast(UpstreamReply, cross(plan, way))


def _note_answer(exchange: Exchange, reply: UpstreamReply, seconds: float) -> None:
    exchange.on_finish(reply.close)
    exchange.on_finish(lambda: exchange.wait(reply.waited))
    exchange.facts |= {
        "upstream_address": reply.address,
        "upstream_status": reply.status,
        "upstream_seconds": round(seconds, 6),
        "attempts": exchange.facts["attempts"] + reply.attempts - 1,
    }


def _sign(provider: Provider, upstream: Upstream) -> Sign | None:
    """What signs the requests to an upstream; None where its credential goes in a header."""
    try:
        sign = provider.sign and provider.sign(upstream.settings, upstream.credential)
    except ConfigError as error:
        raise ConfigError(f"upstream {upstream.name!r}: {error}") from None
    if sign is not None and upstream.pass_caller_credential:
        raise ConfigError(
            f"upstream {upstream.name!r}: its requests are signed, so no caller's key is sent: remove"
            " pass_caller_credential"
        )
    return sign


def _headers(
    upstream: Upstream, provider: Provider, call: Call, credentials: Credentials, sign: Sign | None
) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if call.endpoint in BODILESS:
        del headers["content-type"]
    headers["user-agent"] = "outgate"
    headers |= wire.passed_on(call.headers, wire.PASSED)
    headers |= provider.headers
    headers |= wire.passed_on(call.headers, upstream.pass_headers)
    key = (
        credentials.provider
        if upstream.pass_caller_credential and credentials.provider
        else upstream.credential
    )
    if key and sign is None:
        headers[provider.credential_header] = provider.credential_prefix + key.reveal()
    # From a plugin, which vouches for its form: a caller's own never passes by itself.
    if upstream.trace and isinstance(trace := call.notes.get("traceparent"), str):
        headers["traceparent"] = trace
    return headers
