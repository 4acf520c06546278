"""Tells a caller of a refusal, in a dialect of its own where a plugin speaks it."""

from collections.abc import Iterable

from proxy import results
from proxy.exchange import Answer, Denied, Exchange
from proxy.frozen import freeze
from proxy.model import Call, Reply
from proxy.records import Denial
from proxy.steps import Step, Trail


def refuse(steps: Iterable[Step], denied: Denied, exchange: Exchange) -> Answer:
    """End the call with a refusal; ``steps`` may say it in other words, and never take it back."""
    reply = Reply(status=denied.status, body=freeze(denied.body()))
    if exchange.call is not None:
        denial = Denial(
            denied.deny,
            denied.by,
            tuple(exchange.trail.findings),
            not exchange.facts.keys().isdisjoint(("upstream_address", "answered_by")),
        )
        reply = rewrite_denial(steps, exchange.call, denial, reply, exchange.trail)
    return exchange.refuse(denied, by=denied.by, told=reply)


def rewrite_denial(
    steps: Iterable[Step], call: Call, denial: Denial, reply: Reply, trail: Trail
) -> Reply:
    """Thread ``reply`` through every step; one that fails changes nothing."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(
            step, results.bad_denial, call=call, denial=denial, reply=reply
        )
        if fault is not None:
            trail.fault(step, fault)
            continue
        trail.note(step, "pass" if result is None else "rewrite")
        if result is not None and not step.monitor:
            reply = Reply(status=result.status, body=freeze(result.body))
    return reply
