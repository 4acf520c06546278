"""The fold over the hook chain: values are threaded, errors deny, and nobody can undo a Deny."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.model import Call, Deny, Failure, Finding, Principal, Record, Reply, Request, Verdict
from proxy.patterns import Globs

log: Final = logging.getLogger("outgate.chain")
_HEADER_NAME: Final = re.compile(r"x-[a-z0-9-]{1,64}\Z")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}\Z")
#: Raised by a plugin these are its error too: ``sys.exit()`` in a guardrail must not end the worker.
PluginFault: Final = (Exception, SystemExit)


class Scope(Struct, frozen=True):
    """Which calls a plugin entry concerns; None means all."""

    principals: Globs | None = None
    groups: Globs | None = None
    models: Globs | None = None
    endpoints: Globs | None = None

    def covers(
        self, endpoint: str, principal: str | None, groups: Iterable[str], model: str | None
    ) -> bool:
        """Whether every list that was given fits."""
        return (
            (self.endpoints is None or self.endpoints.match(endpoint))
            and (self.principals is None or self.principals.match(principal or ""))
            and (self.models is None or self.models.match(model or ""))
            and (self.groups is None or any(map(self.groups.match, groups)))
        )

    def covers_call(self, call: Call) -> bool:
        """Whether this scope holds ``call`` as it is now."""
        return self.covers(call.endpoint, call.principal.name, call.principal.groups, call.model)


class Step(Struct, frozen=True, kw_only=True):
    """One implementation of one hook, with what the operator said of it; ``deadline`` in seconds."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    scope: Scope = Scope()
    monitor: bool = False
    allow_on_error: bool = False
    required: bool = False
    deadline: float = 5.0

    def run(self, **offered: Any) -> Any:
        """Call the implementation with the arguments it asked for."""
        return self.function(*[offered[name] for name in self.arguments])


class Chain(Struct, frozen=True, kw_only=True):
    """Every step of every per-call hook, in configuration order."""

    identify: tuple[Step, ...] = ()
    rewrite_request: tuple[Step, ...] = ()
    guard_request: tuple[Step, ...] = ()
    choose_upstream: tuple[Step, ...] = ()
    rewrite_response: tuple[Step, ...] = ()
    log_exchange: tuple[Step, ...] = ()


class Running:
    """The hooks that run at this moment, so that readiness can see the ones that hang."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[Step, float]] = {}

    def enter(self, step: Step) -> None:
        """Note that this thread is inside ``step``."""
        self._since[threading.get_ident()] = (step, time.monotonic())

    def leave(self) -> None:
        """Note that this thread came back."""
        self._since.pop(threading.get_ident(), None)

    def hung(self) -> list[str]:
        """The plugins whose hook runs past its deadline, one name per hook."""
        now = time.monotonic()
        return [
            step.plugin for step, since in list(self._since.values()) if now - since > step.deadline
        ]


class Trail:
    """What each plugin did with one call; ends up in its record."""

    def __init__(self, running: Running | None = None) -> None:
        self.verdicts: list[Verdict] = []
        self.findings: list[Finding] = []
        self._running = running or Running()

    def attempt(self, step: Step, **offered: Any) -> tuple[Any, str | None]:
        """Run a step: its result, and the fault if it raised or took too long."""
        started = time.perf_counter()
        self._running.enter(step)
        try:
            result, fault = step.run(**offered), None
        except PluginFault as error:
            log.exception("plugin %s failed in %s", step.plugin, step.hook)
            result, fault = None, f"raised {type(error).__name__}"
        finally:
            self._running.leave()
        elapsed = time.perf_counter() - started
        if fault is None and elapsed > step.deadline:
            fault = "exceeded its deadline"
        self._elapsed = elapsed
        return result, fault

    def note(self, step: Step, verdict: str, detail: str | None = None) -> None:
        """Keep the verdict on the step that was attempted last."""
        word = f"monitor:{verdict}" if step.monitor and verdict != "pass" else verdict
        milliseconds = round(self._elapsed * 1000, 3)
        self.verdicts.append(Verdict(step.plugin, step.hook, word, milliseconds, detail))


def fault_denial(plugin: str) -> Deny:
    """The refusal a broken plugin becomes; says which, never why (the log does)."""
    return Deny(
        f"The plugin {plugin!r} could not judge this call, so it was refused. Tell the operator of this gateway.",
        code="plugin_failed",
        status=500,
    )


def rewrite_request(steps: Iterable[Step], call: Call, trail: Trail) -> Call | Deny:
    """Thread ``call`` through every step; the first fault denies."""
    for step in steps:
        if not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, call=call)
        fault = fault or _bad_call(result, call)
        if fault is not None:
            deny = _faulted(step, fault, trail)
            if deny is not None:
                return deny
            continue
        changed = result is not None and result != call
        trail.note(step, "rewrite" if changed else "pass")
        if changed and not step.monitor:
            call = result
    return call


def guard_request(steps: Iterable[Step], call: Call, trail: Trail) -> tuple[Deny, str] | None:
    """Ask every guardrail until one refuses: the Deny and the plugin's name, or None."""
    for step in steps:
        if not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, call=call)
        if fault is None and result is not None and not isinstance(result, Deny):
            fault = f"returned {type(result).__name__}, not Deny or None"
        if fault is not None:
            deny = _faulted(step, fault, trail)
        else:
            deny = result
            trail.note(step, "deny" if deny else "pass", deny.code if deny else None)
        if deny is not None and not step.monitor:
            return deny, step.plugin
    return None


def rewrite_response(steps: Iterable[Step], call: Call, reply: Reply, trail: Trail) -> Reply | Deny:
    """Thread ``reply`` through every step; a Deny or a fault ends it."""
    for step in steps:
        if not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, call=call, reply=reply)
        if fault is None and not (result is None or isinstance(result, Deny | Reply)):
            fault = f"returned {type(result).__name__}, not Reply, Deny or None"
        if fault is not None:
            result = _faulted(step, fault, trail)
        elif isinstance(result, Deny):
            trail.note(step, "deny", result.code)
        else:
            trail.note(step, "pass" if result is None or result == reply else "rewrite")
        if result is None or step.monitor:
            continue
        if isinstance(result, Deny):
            return result
        reply = result
    return reply


def identify(steps: Iterable[Step], request: Request, trail: Trail) -> Principal | Deny | None:
    """The first plugin that knows the caller; a fault denies."""
    for step in steps:
        if not step.scope.covers(request.endpoint, None, (), None):
            continue
        result, fault = trail.attempt(step, request=request)
        if fault is None and not (result is None or isinstance(result, Principal)):
            fault = f"returned {type(result).__name__}, not Principal or None"
        if fault is not None:
            return _faulted(step, fault, trail)
        if result is not None:
            trail.note(step, "identified")
            found: Principal = result
            return found
    return None


def choose_upstream(
    steps: Iterable[Step], call: Call, failures: tuple[Failure, ...], trail: Trail
) -> str | Deny | None:
    """The first plugin that names an upstream; a fault denies."""
    for step in steps:
        if not step.scope.covers_call(call):
            continue
        result, fault = trail.attempt(step, call=call, failures=failures)
        if fault is None and not (result is None or isinstance(result, str | Deny)):
            fault = f"returned {type(result).__name__}, not an upstream's name or None"
        if fault is not None:
            return _faulted(step, fault, trail)
        if result is not None:
            trail.note(step, "chosen", result if isinstance(result, str) else result.code)
            chosen: str | Deny = result
            return chosen
    return None


def tell(steps: Iterable[Step], record: Record, running: Running) -> Mapping[str, bool]:
    """Hand the record to every sink, each on its own: sink name → whether it took it."""
    told: dict[str, bool] = {}
    for step in steps:
        if step.scope.covers(record.endpoint, record.principal, record.groups, record.model):
            _, fault = Trail(running).attempt(step, record=record)
            told[step.plugin] = fault is None
    return told


def _bad_call(result: Any, call: Call) -> str | None:
    if result is None:
        return None
    if not isinstance(result, Call):
        return f"returned {type(result).__name__}, not Call or None"
    if (result.id, result.endpoint, result.principal) != (call.id, call.endpoint, call.principal):
        return "changed id, endpoint or principal"
    for name, value in result.reply_headers.items():
        if not (_HEADER_NAME.match(name) and _HEADER_VALUE.match(str(value))):
            return f"set the reply header {name!r}: only x-* with printable ASCII is taken"
    return None


def _faulted(step: Step, fault: str, trail: Trail) -> Deny | None:
    """A fault as the operator wants it: a refusal, or (``on_error = "allow"``, monitor) only a note."""
    log.error("plugin %s: %s %s", step.plugin, step.hook, fault)
    trail.note(step, "error", fault)
    return None if step.allow_on_error or step.monitor else fault_denial(step.plugin)
