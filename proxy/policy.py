"""Detection is not decision: detectors find, ``[policy]`` says what happens to what they found."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from proxy.detect.decode import decoded
from proxy.detect.detector import Detector
from proxy.detect.engine import Engine, Span, Stream
from proxy.errors import ConfigError, Unavailable
from proxy.fence import DetectorFault, Fence, Terms
from proxy.model import Action, Call, Deny
from proxy.patterns import linear
from proxy.rules import DEFAULT, PolicyTable, Rule, Rules, Side, rule_for
from proxy.scopes import scope_of
from proxy.steps import Scope, Step, Trail, away_denial, fault_denial

#: Why a text may not go on, and the plugin that says so.
Refusal: TypeAlias = tuple[Deny, str]
Result = TypeVar("Result")
_DEADLINE: Final = 5.0


class Watch(Struct, frozen=True):
    """A detector with the plugin entry that brought it; ``monitor`` outranks the policy, ``deadline`` in seconds."""

    detector: Detector
    plugin: str
    scope: Scope = Scope()
    monitor: bool = False
    allow_on_error: bool = False
    deadline: float = 5.0


class Refused(Exception):
    """Nothing of this may go on; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("refused")
        self.refusal = refusal


class Quota(Struct, frozen=True):
    """Watches whose findings together must be ``least`` different texts for ``action``."""

    watches: frozenset[int]
    least: int
    action: Action


class Active(Struct, frozen=True):
    """The watches that matter for one side of a call, and what happens to what each finds.

    ``quotas`` outrank ``actions`` once they are reached; ``tolerant``: the faults of all are borne;
    ``edits``: some do more than monitor.
    """

    actions: Mapping[int, Action]
    quotas: tuple[Quota, ...]
    chosen: frozenset[int]
    deadline: float
    tolerant: bool
    edits: bool

    def __bool__(self) -> bool:
        return bool(self.chosen)

    def settled(self, found: Collection[tuple[int, str]]) -> Mapping[int, Action]:
        """What happens to what each watch found, when all that was found is known: (watch, text)."""
        actions = dict(self.actions)
        for quota in self.quotas:
            if len({text for index, text in found if index in quota.watches}) >= quota.least:
                actions |= dict.fromkeys(quota.watches, quota.action)
        return actions


class Policy:
    """Every detector, compiled into one engine, with what the operator wants done about what it finds.

    Raises ``ConfigError`` for a detector or an allowed pattern that the engine cannot take.
    """

    def __init__(self, table: PolicyTable, watches: Sequence[Watch]) -> None:
        self.table = table
        self.watches = tuple(watches)
        self._rules = [scope_of(scoped.when) for scoped in table.rules]
        self._scopes = _distinct([*self._rules, *(watch.scope for watch in self.watches)])
        self._active: dict[tuple[Side, tuple[bool, ...]], Active] = {}
        self._fence = Fence([_terms(watch) for watch in self.watches])
        self._engine = _compiled(self.watches, self._fence)
        self._values = frozenset(table.allowed.values)
        self._digests = frozenset(digest.lower() for digest in table.allowed.sha256)
        self._patterns = [linear(rf"(?s)\A(?:{pattern})\z") for pattern in table.allowed.patterns]

    def active(self, call: Call, side: Side) -> Active:
        """The watches whose findings matter in this call, with what happens to them."""
        covered = tuple(scope.covers_call(call) for scope in self._scopes)
        if (side, covered) not in self._active:
            self._active[side, covered] = self._choose(side, covered)
        return self._active[side, covered]

    def _choose(self, side: Side, covered: Sequence[bool]) -> Active:
        scopes = [scope for scope, holds in zip(self._scopes, covered, strict=True) if holds]
        tables = self._tables(side, scopes)
        found: dict[int, Action] = {}
        counted: dict[int, tuple[Rule, set[int]]] = {}
        for index, watch in enumerate(self.watches):
            detector = watch.detector
            if watch.scope not in scopes or detector.confidence < self.table.confidence:
                continue
            rule = rule_for(tables, detector, DEFAULT[side])
            action = rule.action_of(detector) if isinstance(rule, Rule) else rule
            counts = isinstance(rule, Rule) and rule.at_least > 1 and rule.holds_for(detector)
            if isinstance(rule, Rule) and counts and not watch.monitor:
                counted.setdefault(id(rule), (rule, set()))[1].add(index)
            if action != "allow" or counts:
                found[index] = "monitor" if watch.monitor else action
        return self._made(found, counted.values())

    def _tables(self, side: Side, scopes: Sequence[Scope]) -> list[Rules]:
        """The tables that fit, the first to be asked first."""
        scoped = zip(self.table.rules, self._rules, strict=True)
        fitting = [getattr(entry, side) for entry, scope in scoped if scope in scopes]
        return [*fitting, getattr(self.table, side)]

    def _made(
        self, found: Mapping[int, Action], counted: Iterable[tuple[Rule, set[int]]]
    ) -> Active:
        chosen = [self.watches[index] for index in found]
        return Active(
            found,
            tuple(Quota(frozenset(of), rule.at_least, rule.action) for rule, of in counted),
            frozenset(found),
            max((watch.deadline for watch in chosen), default=_DEADLINE),
            all(_terms(watch).tolerant for watch in chosen),
            bool({*found.values()} - {"monitor"}),
        )

    def attempt(self, search: Callable[[], Result], active: Active, trail: Trail) -> Result:
        """Search as a step of the chain.

        Raises ``Refused`` for a fault of a detector, unless its entry says otherwise.
        """
        self._fence.start()
        step = _step("policy", active.deadline, active.tolerant, partial(_tried, search))
        result, fault = trail.attempt(step)
        for index, borne in self._fence.faults.items():
            self._fault(index, borne, trail)
        if isinstance(result, DetectorFault):
            raise Refused(self._fault(result.index, result.fault, trail, result.away))
        if fault is not None:
            _note(step, fault, trail)
            if result is None or not active.tolerant:
                raise Refused((fault_denial("policy"), "policy"))
        found: Result = result
        return found

    def _fault(
        self, index: int, fault: str, trail: Trail, away: Unavailable | None = None
    ) -> Refusal:
        """The refusal that a fault becomes, unless it is borne."""
        watch = self.watches[index]
        step = _step(watch.plugin, watch.deadline, watch.allow_on_error, tuple)
        _note(replace(step, monitor=watch.monitor), f"{watch.detector.kind}: {fault}", trail)
        return away_denial(away) if away else fault_denial(watch.plugin), watch.plugin

    def find(self, text: str, chosen: frozenset[int], *, decode: bool = False) -> list[Span]:
        """What ``chosen`` watches find in ``text``, allowed values left out; raises ``DetectorFault``."""
        spans = self._engine.find(text, chosen)
        if decode and self.table.decode:
            spans = sorted({*spans, *self._decoded(text, chosen)})
        return [span for span in spans if not self.is_allowed(text[span.start : span.end])]

    def _decoded(self, text: str, chosen: frozenset[int]) -> Iterator[Span]:
        for reading in decoded(text):
            for span in self._engine.find(reading.text, chosen):
                source = reading.source(span.start, span.end)
                if source is not None and not self.is_allowed(reading.text[span.start : span.end]):
                    yield Span(*source, span.detector)

    def stream(self, chosen: frozenset[int]) -> Stream:
        """A text that arrives in pieces, searched by ``chosen`` watches."""
        return self._engine.stream(chosen)

    def is_allowed(self, text: str) -> bool:
        """Whether the operator said that this very text is no finding."""
        return (
            text in self._values
            or any(pattern.search(text) for pattern in self._patterns)
            or (bool(self._digests) and hashlib.sha256(text.encode()).hexdigest() in self._digests)
        )


def kinds_and_groups(watches: Iterable[Watch]) -> set[str]:
    """Every name that a policy table may use."""
    return {name for watch in watches for name in (watch.detector.kind, *watch.detector.groups)}


def _tried(search: Callable[[], Any]) -> Any:
    try:
        return search()
    except DetectorFault as fault:
        return fault


def _step(plugin: str, deadline: float, tolerant: bool, function: Callable[[], Any]) -> Step:
    return Step(
        plugin=plugin,
        hook="detectors",
        function=function,
        arguments=(),
        allow_on_error=tolerant,
        deadline=deadline,
    )


def _note(step: Step, fault: str, trail: Trail) -> None:
    """Note a fault once, however many pieces of a text it is met in."""
    if not any((v.plugin, v.detail) == (step.plugin, fault) for v in trail.verdicts):
        trail.fault(step, fault)


def _terms(watch: Watch) -> Terms:
    return Terms(watch.plugin, watch.deadline, watch.monitor or watch.allow_on_error)


def _distinct(scopes: Iterable[Scope]) -> list[Scope]:
    found: list[Scope] = []
    for scope in scopes:
        if scope not in found:
            found.append(scope)
    return found


def _compiled(watches: Sequence[Watch], fence: Fence) -> Engine:
    try:
        return Engine([fence.around(watch.detector, i) for i, watch in enumerate(watches)])
    except ConfigError as error:
        culprit = next(watch.plugin for watch in watches if not _is_sound(watch))
        raise ConfigError(f"plugin {culprit!r}: {error}") from None


def _is_sound(watch: Watch) -> bool:
    try:
        Engine([watch.detector])
    except ConfigError:
        return False
    return True
