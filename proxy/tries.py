"""Asks one upstream after the other for an answer to pass on, as routes and plugins choose them."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from msgspec import Struct, structs

from proxy import chain
from proxy.breaker import Breakers
from proxy.egress import Cancelled, Handle, ReadyReply, UpstreamReply, hold
from proxy.errors import ApiError, InvalidRequest, UpstreamError
from proxy.exchange import Answer, Denied, Exchange
from proxy.frozen import FrozenDict
from proxy.intake import Intake
from proxy.model import Call, Choice, Deny, MiB, Timeouts, Upstream
from proxy.parts import Parts
from proxy.pauses import asked_pause
from proxy.records import Failure
from proxy.relay import Relay
from proxy.routes import Routes
from proxy.routing.faults import CIRCUIT_OPEN, STATUS, UNANSWERED, UNSENT
from proxy.sender import Sender, no_such_model
from proxy.steps import fault_denial

log: Final = logging.getLogger("outgate")
_LONGEST_HELD: Final = 1 * MiB
#: What a record says of the upstream whose answer was passed on.
_OF_THE_ANSWER: Final[tuple[str, ...]] = (
    "upstream",
    "upstream_address",
    "upstream_status",
    "upstream_seconds",
    "bridged",
    "bridged_digest",
    "digest",
    "bytes_sent",
)
#: The call is over, whatever answers there were.
_ENDED: Final = frozenset({"client_gone", "draining"})
_TIMEOUTS: Final = frozenset({"timeout_connect", "timeout_first_byte"})


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
    told: Call | None
    reply: ReadyReply
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
        breakers = self._ways.breakers
        if wait := breakers.wait(upstream.name):
            self._failed(choice, CIRCUIT_OPEN, "left alone after failures", retry_after=wait)
            return None
        try:
            reply = self._sent(choice, upstream)
        except UpstreamError as error:
            return self._gave_up(choice, upstream, error)
        except ApiError:
            breakers.spared(upstream.name)
            raise
        try:
            if reply.status in choice.again_on:
                self._hold(choice, upstream, reply)
                answer = None
            else:
                answer = self._ways.relay.answer(upstream, self._asked, reply, self._exchange)
        except UpstreamError as error:
            return self._gave_up(choice, upstream, error)
        except ApiError:
            breakers.answered(upstream.name, reply.status)
            raise
        breakers.answered(upstream.name, reply.status)
        return answer

    def _sent(self, choice: Choice, upstream: Upstream) -> UpstreamReply:
        self._pause(choice.after)
        self._change(choice)
        self._name(self._asked, choice)
        self._watch(min(self._call.deadline, time.monotonic() + upstream.timeouts.total))
        return self._ways.sender.send(
            upstream,
            self._asked,
            self._data,
            self._handle,
            self._exchange,
            _timeouts(upstream, choice),
        )

    def _gave_up(self, choice: Choice, upstream: Upstream, error: UpstreamError) -> Answer | None:
        """What is left after a try without an answer to pass on; raises ``error`` where that is nothing."""
        breakers, exchange = self._ways.breakers, self._exchange
        if self._by_plugin and choice.timeout is not None and error.kind in _TIMEOUTS:
            # A plugin may have it from the caller, whose haste says nothing of the upstream.
            breakers.spared(upstream.name)
        else:
            breakers.failed(upstream.name, error.kind)
        self._failed(choice, error.kind, error.detail)
        if _is_retriable(choice, error):
            log.warning("%s: upstream %s: %s", exchange.id, upstream.name, error)
            return None
        if self._held is None or error.kind in _ENDED:
            raise error
        return self._settle_for(self._held)

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
        if choice.body == self._body:
            return
        self._body = choice.body
        try:
            self._asked, self._data = self._ways.intake.changed(
                self._call, choice.body, self._exchange, guarded=self._by_plugin
            )
        except InvalidRequest as error:
            if choice.from_caller or not self._by_plugin:
                raise
            by = self._exchange.trail.verdicts[-1].plugin
            log.exception("plugin %s chose with a body that cannot be sent", by)
            raise Denied(structs.replace(fault_denial(by), status=502), by) from error

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._watch(self._call.deadline)
            started = time.perf_counter()
            try:
                self._handle.pause(seconds)
            except Cancelled as cancelled:
                raise UpstreamError(cancelled.reason, "while it waited for another try") from None
            finally:
                self._exchange.waited += time.perf_counter() - started

    # -- what came of it ---------------------------------------------------------------------------

    def _name(self, call: Call, choice: Choice) -> None:
        """Have the caller told what the choice says of this try, also if an error is all there is."""
        headers = {**call.reply_headers, **choice.reply_headers}
        told = self._exchange.call
        if told is not None and told.reply_headers != headers:
            self._exchange.call = told.replace(reply_headers=headers)

    def _hold(self, choice: Choice, upstream: Upstream, reply: UpstreamReply) -> None:
        """Keep an answer, if it is one that can be kept; whoever asks next asks for its status."""
        exchange = self._exchange
        try:
            held = hold(reply, _LONGEST_HELD)
        except UpstreamError as error:
            if error.kind in _ENDED:
                raise
            log.warning("%s: upstream %s: %s", exchange.id, upstream.name, error)
        else:
            facts = {
                name: exchange.facts[name] for name in _OF_THE_ANSWER if name in exchange.facts
            }
            self._held = _Held(upstream, choice, self._asked, exchange.call, held, facts)
        asked = asked_pause(reply.headers)
        self._failed(choice, STATUS, f"answered {reply.status}", reply.status, asked)

    def _settle_for(self, held: _Held) -> Answer:
        """Pass on the last answer there was, whatever it says."""
        for name in _OF_THE_ANSWER:
            self._exchange.facts.pop(name, None)
        self._exchange.facts |= held.facts
        self._exchange.call = held.told
        # Like the bridge's: whoever reads it cannot tell.
        reply = cast(UpstreamReply, held.reply)
        self._name(held.call, held.choice)
        return self._ways.relay.answer(held.upstream, held.call, reply, self._exchange)

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
    return error.kind in UNSENT or (choice.again_unanswered and error.kind in UNANSWERED)


def _timeouts(upstream: Upstream, choice: Choice) -> Timeouts:
    own = upstream.timeouts
    if choice.timeout is None or choice.timeout >= own.first_byte:
        return own
    connect = min(own.connect, choice.timeout)
    return structs.replace(own, connect=connect, first_byte=choice.timeout)


def _nothing_left(failures: tuple[Failure, ...]) -> Exception | None:
    """What the caller is told when every upstream failed; None where none was even chosen."""
    waits = [failure.retry_after or 0.0 for failure in failures if failure.kind == CIRCUIT_OPEN]
    if waits and len(waits) == len(failures):
        return ApiError(
            "The upstreams for this model are left alone for a moment, because they failed; try again.",
            status=503,
            code="upstream_unavailable",
            retry_after=int(min(waits)) + 1,
        )
    told = [failure.kind for failure in failures if failure.kind != CIRCUIT_OPEN]
    return UpstreamError(told[-1], "no upstream is left to try") if told else None
