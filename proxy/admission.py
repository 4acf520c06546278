"""The last question before a call leaves: whether what it may cost is granted."""

from collections.abc import Iterable, Mapping

from proxy import results
from proxy.model import Call, Deny
from proxy.steps import Step, Trail


def admit(steps: Iterable[Step], call: Call, trail: Trail) -> Mapping[str, str] | Deny:
    """Ask every plugin that grants: the headers for the reply, or the first refusal or fault.

    What was granted before a refusal is given back by its plugin when it is told of the end of the call.
    """
    headers: dict[str, str] = {}
    for step in steps:
        if step.scope and not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, results.bad_admission, call=call)
        if fault is not None:
            result = trail.fault(step, fault)
        elif isinstance(result, Deny):
            result = results.sound(result)
            trail.note(step, "deny", result.code)
        else:
            trail.note(step, "pass" if result is None else "admitted")
        if step.monitor or result is None:
            continue
        if isinstance(result, Deny):
            return result
        headers |= result.reply_headers
    return headers
