"""Calls that a plugin answers instead of an upstream; their answers go back as any other."""

from collections.abc import Iterator
from typing import Final, cast

from proxy import chain, jsonio, stream
from proxy.egress import UpstreamReply
from proxy.errors import UpstreamError
from proxy.exchange import Answer, Denied, Exchange
from proxy.model import STREAMED, Call, Deny, Reply, Upstream
from proxy.observing import Observation
from proxy.parts import Parts
from proxy.reading import sse_event
from proxy.relay import Relay
from proxy.sse import DONE, encode_event

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"


class PluginReply:
    """Has the interface of ``UpstreamReply``: the complete answer of a plugin, as a stream if ``call`` asks for one.

    A stream ends with its usage where the answer has one; whoever did not ask for it is not to be shown it.
    """

    def __init__(self, call: Call, reply: Reply) -> None:
        streams = call.stream and call.endpoint in STREAMED
        if streams:
            chunks = stream.explode(call.endpoint, reply.body, include_usage=True)
            self._body = b"".join([*map(sse_event, chunks), encode_event(DONE)])
        else:
            self._body = jsonio.encode(reply.body)
        self.status = reply.status
        self.headers = (("content-type", _EVENTS if streams else _JSON), *reply.headers.items())
        self.address = ""
        self.reused = False
        self.attempts = 0
        self.waited = 0.0

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def read(self, limit: int) -> bytes:
        """The whole body; raises ``UpstreamError``, ``too_large`` beyond ``limit`` bytes."""
        if len(self._body) > limit:
            raise UpstreamError("too_large", f"the answer is larger than {limit} bytes")
        return self._body

    def pieces(self) -> Iterator[bytes]:
        """The body, in one piece."""
        yield self._body

    def close(self) -> None:
        """Nothing is open."""


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
        reply = cast(UpstreamReply, PluginReply(call, told))
        return self._relay.answer(_here(told), call, reply, exchange)

    def _observation(self, call: Call) -> Observation | None:
        steps = [step for step in self._chain.observe_response if step.scope.covers_call(call)]
        return Observation(steps, call, self._depth) if steps else None


def _here(reply: Reply) -> Upstream:
    """What stands for the upstream that was not asked."""
    return Upstream(name="", provider="", base_url="", reply_headers=tuple(reply.headers))
