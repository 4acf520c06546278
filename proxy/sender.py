"""Sends a call to one upstream, once: the path, the headers, the body, in whatever form that upstream takes."""

import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote

from proxy import params, wire
from proxy.bridge.crossing import cross, must_cross
from proxy.bridge.plan import Part, Plan, headers_of, planned
from proxy.bridge.way import Way
from proxy.egress import Egress, Handle, UpstreamReply
from proxy.errors import ApiError
from proxy.evidence import Evidence
from proxy.exchange import Exchange
from proxy.intake import Intake
from proxy.model import BODILESS, Call, Credentials, Provider, Timeouts, Upstream
from proxy.parts import Parts
from proxy.routing.faults import UNSENT

#: What is known of an answer, and forgotten when the call is sent once more.
_OF_AN_ANSWER: Final = ("upstream_address", "upstream_status", "upstream_seconds")


class Sender:
    """Knows how each upstream is spoken to. One per process, shared by its threads."""

    def __init__(self, parts: Parts, intake: Intake, evidence: Evidence) -> None:
        self._limits = parts.config.limits
        self._providers = parts.providers
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
        provider = self._providers[upstream.provider]
        path, plan = self._target(upstream, provider, call)
        for stale in _OF_AN_ANSWER:
            exchange.facts.pop(stale, None)
        exchange.facts |= _crossed(plan)
        exchange.facts["upstream"] = upstream.name
        exchange.facts["attempts"] = exchange.facts.get("attempts", 0) + 1
        self._evidence.leaving(exchange, call, sent)
        started = time.perf_counter()
        exchange.facts["sent_seconds"] = round(started - exchange.started, 6)
        headers = _headers(upstream, provider, call, exchange.credentials)
        try:
            if plan is not None:
                reply = self._over(plan, upstream, path, headers, handle, timeouts)
            else:
                method, body = _asked(call, sent)
                reply = self._egress.send(
                    upstream, method, path, body, headers, handle, timeouts=timeouts
                )
        except ValueError:
            # Nothing was sent. In a path only the model can be at fault, a header is the operator's.
            if call.endpoint != "model":
                raise
            raise no_such_model(call) from None
        finally:
            exchange.waited += time.perf_counter() - started
        _note_answer(exchange, reply, time.perf_counter() - started)
        return reply

    def _target(
        self, upstream: Upstream, provider: Provider, call: Call
    ) -> tuple[str, Plan | None]:
        """The path below the base URL, and the chats that a completion has to be sent as; raises ``ApiError``."""
        crosses = must_cross(upstream.bridge, provider.paths, call.endpoint)
        path = provider.paths.get("chat" if crosses else call.endpoint)
        if path is None:
            raise ApiError(
                f"The upstream for this model does not offer {call.endpoint}.",
                status=404, type="invalid_request_error", code="endpoint_not_offered",
            )  # fmt: skip
        if upstream.strict and call.endpoint not in BODILESS:
            params.check(call.endpoint, call.body, strict=True)
        plan = planned(self._intake.readable(call), upstream.bridge) if crosses else None
        return path.replace("{id}", quote(call.model or "", safe="/:@")), plan

    def _over(  # noqa: PLR0917 - as for send
        self,
        plan: Plan,
        upstream: Upstream,
        path: str,
        headers: Mapping[str, str],
        handle: Handle,
        timeouts: Timeouts,
    ) -> UpstreamReply:
        """The answer of an upstream that is spoken to in chats, as one answer to the call."""

        def send(part: Part, own: Handle) -> UpstreamReply:
            named = headers_of(part, plan, headers)
            return self._egress.send(
                upstream, "POST", path, part.body, named, own, timeouts=timeouts
            )

        way = Way(
            send=send,
            handle=handle,
            parallel=upstream.bridge.parallel,
            reply_bytes=self._limits.reply_bytes,
            event_bytes=self._limits.event_bytes,
            unsent=UNSENT,
        )
        # It has the interface, and nothing behind it can tell: the bridge itself knows no network.
        return cast(UpstreamReply, cross(plan, way))


def no_such_model(call: Call) -> ApiError:
    """The answer for a model that leads nowhere."""
    return ApiError(
        f"The model {str(call.model)[:128]!r} does not exist or you do not have access to it.",
        status=404, type="invalid_request_error", code="model_not_found", param="model",
    )  # fmt: skip


def _asked(call: Call, sent: bytes) -> tuple[str, bytes | None]:
    return ("GET", None) if call.endpoint in BODILESS else ("POST", sent)


def _note_answer(exchange: Exchange, reply: UpstreamReply, seconds: float) -> None:
    exchange.on_finish(reply.close)
    exchange.on_finish(lambda: exchange.wait(reply.waited))
    exchange.facts |= {
        "upstream_address": reply.address,
        "upstream_status": reply.status,
        "upstream_seconds": round(seconds, 6),
        "attempts": exchange.facts["attempts"] + reply.attempts - 1,
    }


def _headers(
    upstream: Upstream, provider: Provider, call: Call, credentials: Credentials
) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if call.endpoint in BODILESS:
        del headers["content-type"]
    headers["user-agent"] = "outgate"
    headers |= wire.passed_on(call.headers, (*wire.PASSED, *upstream.pass_headers))
    key = (
        credentials.provider
        if upstream.pass_caller_credential and credentials.provider
        else upstream.credential
    )
    if key:
        headers[provider.credential_header] = provider.credential_prefix + key.reveal()
    # From a plugin, which vouches for its form: a caller's own never passes by itself.
    if upstream.trace and isinstance(trace := call.notes.get("traceparent"), str):
        headers["traceparent"] = trace
    return headers


def _crossed(plan: Plan | None) -> dict[str, Any]:
    """What the record tells of the bridge, also that an upstream asked later did not need it."""
    if plan is None:
        return {"bridged": 0, "bridged_digest": None}
    return {"bridged": len(plan.parts), "bridged_digest": plan.digest}
