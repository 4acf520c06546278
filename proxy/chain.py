"""The fold over the hook chain: values are threaded, errors deny, and nobody can undo a Deny."""

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from msgspec import structs

from proxy import results
from proxy.frozen import FrozenDict, freeze
from proxy.model import Call, Choice, Deny, Principal, Reply, Request
from proxy.records import Failure, Record
from proxy.steps import Running, Step, Trail

log: Final = logging.getLogger("outgate.chain")


def rewrite_request(steps: Iterable[Step], call: Call, trail: Trail) -> Call | Deny:
    """Thread ``call`` through every step; the first Deny or fault ends it."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, partial(results.bad_call, call), call=call)
        if fault is not None:
            result = trail.fault(step, fault)
        elif isinstance(result, Deny):
            result = _refused(step, result, trail)
        else:
            changed = result is not None and result != call
            trail.note(step, "rewrite" if changed else "pass")
            result = result if changed else None
        if result is None or step.monitor:
            continue
        if isinstance(result, Deny):
            return result
        # Frozen once more: a plugin that keeps a reference must not change what others have approved.
        call = result.replace(
            notes=result.notes, reply_headers=result.reply_headers, body=result.body
        )
    return call


def guard_request(steps: Iterable[Step], call: Call, trail: Trail) -> tuple[Deny, str] | None:
    """Ask every guardrail until one refuses: the Deny and the plugin's name, or None."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, results.bad_refusal, call=call)
        if fault is not None:
            result = trail.fault(step, fault)
        elif result is not None:
            result = _refused(step, result, trail)
        else:
            trail.note(step, "pass")
        if result is not None and not step.monitor:
            return result, step.plugin
    return None


def rewrite_response(steps: Iterable[Step], call: Call, reply: Reply, trail: Trail) -> Reply | Deny:
    """Thread ``reply`` through every step; the first Deny or fault ends it."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        check = partial(results.bad_reply, reply)
        result, fault = trail.attempt(step, check, call=call, reply=reply)
        if fault is not None:
            result = trail.fault(step, fault)
        elif isinstance(result, Deny):
            result = _refused(step, result, trail)
        else:
            trail.note(step, "pass" if result is None or result == reply else "rewrite")
        if result is None or step.monitor:
            continue
        if isinstance(result, Deny):
            return result
        reply = result.replace(body=result.body, notes=result.notes)
    return reply


def identify(steps: Iterable[Step], request: Request, trail: Trail) -> Principal | Deny | None:
    """The first plugin that knows the caller; a fault denies."""
    for step in steps:
        if step.scope and not step.scope.covers(request.endpoint, None, (), None):
            continue
        result, fault = trail.attempt(step, results.bad_principal, request=request)
        if fault is not None:
            # No mode and no option lets a call pass whose caller could not be told.
            trail.fault(step, fault)
            return trail.denial(step)
        if result is not None:
            trail.note(step, "identified")
            if type(result) is Principal and type(result.metadata) is FrozenDict:
                return result
            return Principal(result.name, result.groups, freeze(result.metadata))
    return None


def answer_request(
    steps: Iterable[Step], call: Call, trail: Trail
) -> tuple[Reply, str] | tuple[Deny, str] | None:
    """The first answer or refusal there is, and the plugin's name; a fault denies."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, results.bad_answer, call=call)
        if fault is not None:
            result = trail.fault(step, fault)
        elif isinstance(result, Deny):
            result = _refused(step, result, trail)
        else:
            trail.note(step, "pass" if result is None else "answered")
        if result is None or step.monitor:
            continue
        if isinstance(result, Deny):
            return result, step.plugin
        frozen = result.replace(body=result.body, notes=result.notes)
        return structs.replace(frozen, headers=freeze(result.headers)), step.plugin
    return None


def observe_response(
    steps: Iterable[Step], call: Call, reply: Reply, running: Running
) -> list[tuple[str, str]]:
    """Show a reply to every plugin that wants to see it, each on its own: (plugin, fault) of those that failed."""
    faults: list[tuple[str, str]] = []
    for step in steps:
        if step.scope is None or step.scope.covers_call(call):
            _, fault = Trail(running).attempt(step, results.bad_observation, call=call, reply=reply)
            if fault is not None:
                log.error("plugin %s: %s %s", step.plugin, step.hook, fault)
                faults.append((step.plugin, fault))
    return faults


def choose_upstream(
    steps: Iterable[Step], call: Call, failures: tuple[Failure, ...], trail: Trail
) -> Choice | Deny | None:
    """The first plugin that names an upstream; a Deny or a fault denies."""
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, results.bad_choice, call=call, failures=failures)
        if fault is not None:
            result = trail.fault(step, fault)
        elif isinstance(result, Deny):
            result = _refused(step, result, trail)
        elif result is not None:
            result = _chosen(result)
            trail.note(step, "chosen", result.upstream)
        if result is not None and not step.monitor:
            found: Choice | Deny = result
            return found
    return None


def _chosen(result: str | Choice) -> Choice:
    if isinstance(result, str):
        return Choice(upstream=result)
    return structs.replace(
        result, body=freeze(result.body), reply_headers=freeze(result.reply_headers)
    )


def tell(steps: Iterable[Step], record: Record, running: Running) -> Mapping[str, bool]:
    """Hand the record to every sink, each on its own: plugin → whether each of its sinks took it."""
    told: dict[str, bool] = {}
    # Who granted something must settle it, whatever a finding hid of the model that scopes look at.
    granted = {verdict.plugin for verdict in record.verdicts if verdict.hook == "admit"}
    trail = Trail(running)
    about = (record.endpoint, record.principal, record.groups, record.model)
    for step in steps:
        if step.scope is None or step.plugin in granted or step.scope.covers(*about):
            _, fault = trail.attempt(step, record=record, required=step.required)
            if fault is not None:
                log.error("plugin %s: %s %s", step.plugin, step.hook, fault)
            told[step.plugin] = told.get(step.plugin, True) and fault is None
    return told


def _refused(step: Step, deny: Deny, trail: Trail) -> Deny:
    refusal = results.sound(deny)
    trail.note(step, "deny", refusal.code)
    return refusal
