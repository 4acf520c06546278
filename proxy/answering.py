"""Calls that a plugin answers instead of an upstream; their answers go back as any other."""

from typing import Final, cast

from proxy import chain, jsonio, stream
from proxy.egress import ReadyReply, UpstreamReply
from proxy.exchange import Answer, Denied, Exchange
from proxy.model import STREAMED, Call, Deny, Reply, Upstream
from proxy.observing import Observation
from proxy.parts import Parts
from proxy.reading import sse_event
from proxy.relay import Relay
from proxy.sse import DONE, encode_event

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"


class Answering:
    """Asks the plugins for an answer, and else notes which of them want to see the upstream's."""

    def __init__(self, parts: Parts, relay: Relay) -> None:
        self._chain = parts.chain
        self._depth = parts.config.limits.depth
        self._relay = relay

    def answer(self, call: Call, exchange: Exchange) -> Answer | None:
        """The answer of a plugin, if one has any; raises ``ApiError``.

        A call in which something was masked is no plugin's to answer or to keep: what stands in it, and in its
        answer, is turned back for this one call.
        """
        if exchange.vault:
            return None
        found = chain.answer_request(self._chain.answer_request, call, exchange.trail)
        if found is None:
            exchange.observation = self._observation(call)
            return None
        told, plugin = found
        if isinstance(told, Deny):
            raise Denied(told, plugin)
        exchange.facts |= {"answered_by": plugin, "bytes_sent": 0}
        exchange.call = call.note(**told.notes) if told.notes else call
        options = call.body.get("stream_options") or {}
        exchange.hides_usage = exchange.hides_usage or options.get("include_usage") is not True
        # Like the bridge's: whoever reads it cannot tell.
        reply = cast(UpstreamReply, _reply(call, told))
        return self._relay.answer(_here(told), call, reply, exchange)

    def _observation(self, call: Call) -> Observation | None:
        steps = [
            step
            for step in self._chain.observe_response
            if step.scope is None or step.scope.covers_call(call)
        ]
        return Observation(steps, call, self._depth) if steps else None


def _here(reply: Reply) -> Upstream:
    """What stands for the upstream that was not asked."""
    return Upstream(name="", provider="", base_url="", reply_headers=tuple(reply.headers))


def _reply(call: Call, reply: Reply) -> ReadyReply:
    """The complete answer of a plugin as an upstream would give it, as a stream if ``call`` asks for one.

    A stream ends with its usage where the answer has one; whoever did not ask for it is not to be shown it.
    """
    streams = call.stream and call.endpoint in STREAMED
    if streams:
        chunks = stream.explode(call.endpoint, reply.body, include_usage=True)
        body = b"".join([*map(sse_event, chunks), encode_event(DONE)])
    else:
        body = jsonio.encode(reply.body)
    kind = ("content-type", _EVENTS if streams else _JSON)
    return ReadyReply(reply.status, (kind, *reply.headers.items()), body)
