"""Asks one upstream after the other for an answer to pass on, as routes and plugins choose them."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from msgspec import Struct, structs

from proxy import chain
from proxy.breaker import Breakers
from proxy.egress import Cancelled, Handle, HeldReply, UpstreamReply
from proxy.errors import ApiError, UpstreamError
from proxy.exchange import Answer, Denied, Exchange
from proxy.frozen import FrozenDict
from proxy.intake import Intake
from proxy.model import Call, Choice, Deny, MiB, Timeouts, Upstream
from proxy.parts import Parts
from proxy.pauses import asked_pause
from proxy.records import Failure
from proxy.relay import Relay
from proxy.routes import Routes
from proxy.sender import UNSENT, Sender, no_such_model

log: Final = logging.getLogger("outgate")
#: After these the request may have arrived, and there is no usable answer.
_UNANSWERED: Final = frozenset({"timeout_first_byte", "timeout_idle", "cut"})
_LONGEST_HELD: Final = 1 * MiB
#: What a record says of the upstream whose answer was passed on.
_OF_THE_ANSWER: Final = (
    "upstream",
    "upstream_address",
    "upstream_status",
    "upstream_seconds",
    "bridged",
    "bridged_digest",
)


class Ways(Struct, frozen=True):
    """What the tries of all calls share."""

    parts: Parts
    intake: Intake
    routes: Routes
    breakers: Breakers
    sender: Sender
    relay: Relay


class _Held(Struct, frozen=True):
    """An answer that was not passed on, because another upstream may have a better one."""

    upstream: Upstream
    choice: Choice
    call: Call
    reply: HeldReply
    facts: dict[str, Any]


class Tries:
    """The tries of one call; ``watch`` has ``handle`` cancelled at a time, or when the caller hangs up."""

    def __init__(
        self,
        ways: Ways,
        call: Call,
        sent: bytes,
        exchange: Exchange,
        *,
        handle: Handle,
        watch: Callable[[float], None],
    ) -> None:
        self._ways = ways
        self._asked = self._call = call
        self._data = sent
        self._exchange = exchange
        self._handle = handle
        self._watch = watch
        self._held: _Held | None = None
        self._body: Mapping[str, Any] = FrozenDict()
        self._by_plugin = False

    def answer(self) -> Answer:
        """The answer to pass on; raises ``UpstreamError`` or ``ApiError`` when there is none."""
        for _ in range(self._ways.parts.config.limits.tries):
            choice = self._choose()
            if choice is None or choice.after >= self._call.seconds_left():
                break
            answer = self._try(choice, self._upstream(choice))
            if answer is not None:
                return answer
        if self._held is not None:
            return self._settle_for(self._held)
        raise _nothing_left(self._exchange.failures) or no_such_model(self._call)

    def _try(self, choice: Choice, upstream: Upstream) -> Answer | None:
        """The answer of one upstream, or None after a failure that lets another be asked."""
        breakers, exchange = self._ways.breakers, self._exchange
        if wait := breakers.wait(upstream.name):
            self._failed(choice, "circuit_open", "left alone after failures", retry_after=wait)
            return None
        try:
            self._pause(choice.after)
            self._change(choice)
            self._watch(min(self._call.deadline, time.monotonic() + upstream.timeouts.total))
            reply = self._ways.sender.send(
                upstream,
                self._asked,
                self._data,
                self._handle,
                exchange,
                _timeouts(upstream, choice),
            )
            breakers.answered(upstream.name, reply.status)
            if reply.status in choice.again_on:
                self._hold(choice, upstream, reply)
                return None
            return self._pass_on(upstream, self._asked, choice, reply)
        except UpstreamError as error:
            breakers.failed(upstream.name, error.kind)
            self._failed(choice, error.kind, error.detail)
            if not _is_retriable(choice, error):
                raise
            log.warning("%s: upstream %s: %s", exchange.id, upstream.name, error)
            return None
        except ApiError:
            breakers.failed(upstream.name, "refused here")
            raise

    # -- which -------------------------------------------------------------------------------------

    def _choose(self) -> Choice | None:
        exchange = self._exchange
        steps = self._ways.parts.chain.choose_upstream
        chosen = chain.choose_upstream(steps, self._call, exchange.failures, exchange.trail)
        if isinstance(chosen, Deny):
            status = 502 if chosen.code == "plugin_failed" else chosen.status
            by = exchange.trail.verdicts[-1].plugin
            raise Denied(structs.replace(chosen, status=status), by)
        self._by_plugin = chosen is not None
        chosen = chosen or self._ways.routes.choose(self._call, exchange.failures)
        if chosen is None or (not chosen.target and chosen.upstream in _tried(exchange.failures)):
            return None
        return chosen

    def _upstream(self, choice: Choice) -> Upstream:
        upstream = self._ways.parts.upstreams.get(choice.upstream)
        if upstream is None:
            log.error("choose_upstream named %r, which is not configured", choice.upstream)
            raise ApiError(
                "No upstream is configured for this call.", status=502, code="no_such_upstream"
            )
        return upstream

    def _change(self, choice: Choice) -> None:
        """Put on the body that the chosen upstream gets; what is new in it is judged as all the rest was."""
        if choice.body != self._body:
            self._body = choice.body
            self._asked, self._data = self._ways.intake.changed(
                self._call, choice.body, self._exchange, guarded=self._by_plugin
            )

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._watch(self._call.deadline)
            try:
                self._handle.pause(seconds)
            except Cancelled as cancelled:
                raise UpstreamError(cancelled.reason, "while it waited for another try") from None
            finally:
                self._exchange.waited += seconds

    # -- what came of it ---------------------------------------------------------------------------

    def _pass_on(
        self, upstream: Upstream, call: Call, choice: Choice, reply: UpstreamReply
    ) -> Answer:
        if choice.reply_headers and self._exchange.call is not None:
            headers = {**self._exchange.call.reply_headers, **choice.reply_headers}
            self._exchange.call = self._exchange.call.replace(reply_headers=headers)
        return self._ways.relay.answer(upstream, call, reply, self._exchange)

    def _hold(self, choice: Choice, upstream: Upstream, reply: UpstreamReply) -> None:
        held = HeldReply(reply, _LONGEST_HELD)
        facts = {name: self._exchange.facts.get(name) for name in _OF_THE_ANSWER}
        self._held = _Held(upstream, choice, self._asked, held, facts)
        self._failed(
            choice, "status", f"answered {reply.status}", reply.status, asked_pause(held.headers)
        )

    def _settle_for(self, held: _Held) -> Answer:
        """Pass on the last answer there was, whatever it says."""
        self._exchange.facts |= held.facts
        # Like the bridge's: whoever reads it cannot tell.
        reply = cast(UpstreamReply, held.reply)
        return self._pass_on(held.upstream, held.call, held.choice, reply)

    def _failed(
        self,
        choice: Choice,
        kind: str,
        detail: str,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        failure = Failure(choice.upstream, kind, detail, choice.target, status, retry_after)
        self._exchange.failures = (*self._exchange.failures, failure)


def _tried(failures: tuple[Failure, ...]) -> set[str]:
    return {failure.upstream for failure in failures}


def _is_retriable(choice: Choice, error: UpstreamError) -> bool:
    return error.kind in UNSENT or (choice.again_unanswered and error.kind in _UNANSWERED)


def _timeouts(upstream: Upstream, choice: Choice) -> Timeouts:
    own = upstream.timeouts
    if choice.timeout is None or choice.timeout >= own.first_byte:
        return own
    connect = min(own.connect, choice.timeout)
    return structs.replace(own, connect=connect, first_byte=choice.timeout)


def _nothing_left(failures: tuple[Failure, ...]) -> Exception | None:
    """What the caller is told when every upstream failed; None where none was even chosen."""
    waits = [failure.retry_after or 0.0 for failure in failures if failure.kind == "circuit_open"]
    if waits and len(waits) == len(failures):
        return ApiError(
            "The upstreams for this model are left alone for a moment, because they failed; try again.",
            status=503,
            code="upstream_unavailable",
            retry_after=int(min(waits)) + 1,
        )
    told = [failure.kind for failure in failures if failure.kind != "circuit_open"]
    return UpstreamError(told[-1], "no upstream is left to try") if told else None
