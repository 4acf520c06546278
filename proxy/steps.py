"""The steps of the hook chain: whom they concern, how one is run, and the trail that it leaves."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.errors import Unavailable
from proxy.model import Call, Deny
from proxy.outbox import Undelivered
from proxy.patterns import Globs
from proxy.records import Finding, Verdict

log: Final = logging.getLogger("outgate.chain")
trace: Final = logging.getLogger("outgate.trace")
#: Whether each hook leaves a line in the log; read once, so that it costs nothing when it is off.
TRACING: Final = os.environ.get("OUTGATE_TRACE", "") not in ("", "0")
#: What a plugin raises is its error, ``sys.exit()`` and a cancelled task of asyncio too: neither may end the worker.
PluginFault: Final = BaseException
_LONGEST_DETAIL: Final = 256


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
        if self.endpoints is self.principals is self.models is self.groups is None:
            return True
        return self.covers(call.endpoint, call.principal.name, call.principal.groups, call.model)


class Step(Struct, frozen=True, kw_only=True):
    """One implementation of one hook, with what the operator said of it.

    ``scope`` is None where it concerns every call, ``deadline`` is in seconds.
    """

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    scope: Scope | None = None
    monitor: bool = False
    allow_on_error: bool = False
    required: bool = False
    deadline: float = 5.0

    def run(self, **offered: Any) -> Any:
        """Call the implementation with the arguments it asked for."""
        return self.function(*map(offered.__getitem__, self.arguments))


class Chain(Struct, frozen=True, kw_only=True):
    """Every step of every per-call hook, in configuration order."""

    identify: tuple[Step, ...] = ()
    rewrite_request: tuple[Step, ...] = ()
    guard_request: tuple[Step, ...] = ()
    admit: tuple[Step, ...] = ()
    answer_request: tuple[Step, ...] = ()
    choose_upstream: tuple[Step, ...] = ()
    rewrite_response: tuple[Step, ...] = ()
    rewrite_denial: tuple[Step, ...] = ()
    log_exchange: tuple[Step, ...] = ()
    observe_response: tuple[Step, ...] = ()


class Running:
    """The hooks that run at this moment, so that readiness can see the ones that hang."""

    def __init__(self) -> None:
        #: Of each thread that is inside a step: which, and since when by the monotonic clock.
        self.inside: dict[int, tuple[Step, float]] = {}

    def hung(self) -> list[str]:
        """The plugins whose hook runs past its deadline, one name per hook."""
        now = time.monotonic()
        return [
            step.plugin for step, since in list(self.inside.values()) if now - since > step.deadline
        ]


class Trail:
    """What each plugin did with one call; ends up in its record."""

    def __init__(self, running: Running | None = None) -> None:
        self.verdicts: list[Verdict] = []
        self.findings: list[Finding] = []
        self._running = running or Running()
        self._away: Unavailable | None = None

    def attempt(
        self, step: Step, verify: Callable[[Any], str | None] | None = None, /, **offered: Any
    ) -> tuple[Any, str | None]:
        """Run a step: its result, and the fault if it raised, took too long, or ``verify`` names one.

        A refusal that comes too late is a refusal all the same, even where errors are allowed.
        """
        started, inside, thread = time.monotonic(), self._running.inside, threading.get_ident()
        self._away = None
        inside[thread] = (step, started)
        try:
            result = step.function(*map(offered.__getitem__, step.arguments))
            fault = verify(result) if verify else None
        except Unavailable as error:
            self._away = error
            result, fault = None, f"is unavailable: {error.message}"
        except Undelivered as error:
            result, fault = None, f"is behind: {error}"  # one line: there is one for each call
        except PluginFault as error:
            _log_error(step, error)
            result, fault = None, f"raised {type(error).__name__}"
        finally:
            inside.pop(thread, None)
        self._elapsed = time.monotonic() - started
        if fault is None and self._elapsed > step.deadline and not isinstance(result, Deny):
            fault = "exceeded its deadline"
        if TRACING:
            _trace(step, self._elapsed, result, fault, offered)
        return result, fault

    def note(self, step: Step, verdict: str, detail: str | None = None) -> None:
        """Keep the verdict on the step that was attempted last."""
        word = f"monitor:{verdict}" if step.monitor and verdict != "pass" else verdict
        milliseconds = round(self._elapsed * 1000, 3)
        told = None if detail is None else _clean(detail)
        self.verdicts.append(Verdict(step.plugin, step.hook, word, milliseconds, told))

    def fault(self, step: Step, fault: str) -> Deny | None:
        """A fault as the operator wants it: a refusal, or (``on_error = "allow"``, monitor) only a note."""
        log.error("plugin %s: %s %s", step.plugin, step.hook, fault)
        self.note(step, "error", fault)
        return None if step.allow_on_error or step.monitor else self.denial(step)

    def denial(self, step: Step) -> Deny:
        """The refusal that a fault of the step attempted last becomes."""
        return away_denial(self._away) if self._away else fault_denial(step.plugin)


def away_denial(away: Unavailable) -> Deny:
    """The refusal while what a plugin needs cannot be reached: another try may help."""
    headers = {"retry-after": str(away.retry_after)}
    return Deny(away.message, "state_unavailable", status=503, headers=headers)


def fault_denial(plugin: str) -> Deny:
    """The refusal a broken plugin becomes; says which, never why (the log does)."""
    return Deny(
        f"The plugin {plugin!r} could not judge this call, so it was refused. Tell the operator of this gateway.",
        code="plugin_failed",
        status=500,
    )


def _log_error(step: Step, error: BaseException) -> None:
    """The traceback; of ``identify`` without the message, which may hold the credential it was shown."""
    lines = traceback.format_tb(error.__traceback__)
    if step.hook != "identify":
        lines += traceback.format_exception_only(error)
    log.error("plugin %s failed in %s:\n%s", step.plugin, step.hook, "".join(lines).rstrip())


def _trace(
    step: Step, seconds: float, result: Any, fault: str | None, offered: Mapping[str, Any]
) -> None:
    """Which hook, whose, how long, with what kind of result; never what is in it."""
    named = next((value.id for value in offered.values() if hasattr(value, "id")), "-")
    word = "nothing" if result is None else type(result).__name__.lower()
    if fault is not None or isinstance(result, BaseException):
        word = "error"
    elif step.hook == "detectors":
        word = "searched"
    trace.info("%s %s %s %.3f ms %s", named, step.hook, step.plugin, seconds * 1000, word)


def _clean(detail: str) -> str:
    """Short, and something that every log can write."""
    return detail[:_LONGEST_DETAIL].encode(errors="backslashreplace").decode()
