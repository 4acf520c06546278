"""What is loaded, as the page shows it: plugins in order, hooks, rules, detectors, upstreams, routes; no secret."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from proxy.config import PluginEntry
from proxy.parts import Parts
from proxy.policy import Watch
from proxy.routing.table import shown_upstreams, shown_when
from proxy.rules import DEFAULT, SIDES, Rules, rule_for
from proxy.scopes import When
from proxy.steps import Chain

_ORDER: Final = Chain.__struct_fields__
_MOST_SHOWN: Final = 6
_SIDES: Final = {"request": "Requests", "response": "Replies"}


class PluginRow(Struct, frozen=True, kw_only=True):
    """One ``[[plugins]]`` entry: what it does, for which calls, and what the operator said of it."""

    number: int
    name: str
    use: str
    hooks: tuple[str, ...]
    detectors: int
    mode: str
    on_error: str
    required: bool
    scope: str


class RouteRow(Struct, frozen=True, kw_only=True):
    """One ``[[routes]]`` entry: for which calls, and which upstreams they go to."""

    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    when: str
    strategy: str
    upstreams: str


class HookRow(Struct, frozen=True):
    """A hook and the plugins that it runs, in order; ``detectors`` and ``policy`` are one step of the way, too."""

    hook: str
    plugins: tuple[tuple[str, bool], ...]
    what: str


class RuleTable(Struct, frozen=True):
    """Rules for requests or replies, for some calls or all: (kind or group, action)."""

    side: str
    scope: str
    rows: list[tuple[str, str]]


class DetectorRow(Struct, frozen=True):
    """A kind, and what becomes of it on the way out and on the way back."""

    kind: str
    plugin: str
    groups: str
    confidence: float
    request: str
    response: str


_WHAT: Final = {
    "identify": "says who calls",
    "rewrite_request": "may change the request",
    "guard_request": "may refuse it",
    "admit": "reserves what it may cost, or refuses it",
    "answer_request": "may answer it in place of an upstream",
    "choose_upstream": "says where it goes",
    "rewrite_response": "may change or refuse the reply",
    "rewrite_denial": "may word a refusal anew",
    "log_exchange": "is told of every call",
    "observe_response": "is shown what upstreams answered",
}


def plugins(parts: Parts) -> list[PluginRow]:
    """Every entry, in configuration order."""
    return [_plugin(parts, number, entry) for number, entry in enumerate(parts.config.plugins, 1)]


def _plugin(parts: Parts, number: int, entry: PluginEntry) -> PluginRow:
    hooks = [
        hook
        for hook in _ORDER
        if any(step.plugin == entry.label for step in getattr(parts.chain, hook))
    ]
    if any(watch.plugin == entry.label for watch in parts.policy.watches):
        hooks.append("detectors")
    watches = sum(watch.plugin == entry.label for watch in parts.policy.watches)
    return PluginRow(
        number=number,
        name=entry.label,
        use=entry.use,
        hooks=tuple(hooks),
        detectors=watches,
        mode=entry.mode,
        on_error=entry.on_error,
        required=entry.required,
        scope=_scope(entry.when),
    )


def _scope(when: When) -> str:
    given = [
        f"{name} {', '.join(getattr(when, name))}"
        for name in when.__struct_fields__
        if getattr(when, name)
    ]
    return "; ".join(given) or "every call"


def hooks(parts: Parts) -> list[HookRow]:
    """The way of a call through the plugins."""
    rows = [
        HookRow(hook, tuple((step.plugin, step.monitor) for step in steps), _WHAT.get(hook, ""))
        for hook in _ORDER
        for steps in [getattr(parts.chain, hook)]
    ]
    names = dict.fromkeys((watch.plugin, watch.monitor) for watch in parts.policy.watches)
    at = [row.hook for row in rows].index("guard_request") + 1
    rows.insert(at, HookRow("detectors", tuple(names), "find; the policy says what happens"))
    return rows


def detectors(parts: Parts) -> list[DetectorRow]:
    """Every kind that is looked for, with its actions in calls for which no narrower rule is written."""
    rows = [_detector(parts, watch) for watch in parts.policy.watches]
    return sorted(rows, key=lambda row: (row.request == row.response == "allow", row.kind))


def _detector(parts: Parts, watch: Watch) -> DetectorRow:
    rules, detector = parts.policy.table, watch.detector
    unsure = detector.confidence < rules.confidence
    actions: list[str] = []
    for side in SIDES:
        action = str(rule_for([getattr(rules, side)], detector, DEFAULT[side]))
        if action != "allow" and watch.monitor:
            action = "monitor"
        actions.append("allow" if unsure else action)
    groups = ", ".join(sorted(detector.groups))
    return DetectorRow(detector.kind, watch.plugin, groups, detector.confidence, *actions)


def rules(parts: Parts) -> list[RuleTable]:
    """The tables of both sides as they are written, those for some calls first."""
    policy = parts.policy.table
    found: list[RuleTable] = []
    for side in SIDES:
        narrow = ((scoped.when, _written(getattr(scoped, side))) for scoped in policy.rules)
        found.extend(RuleTable(_SIDES[side], _scope(when), rows) for when, rows in narrow if rows)
        written = _written(getattr(policy, side))
        rest = [] if any(name == "*" for name, _ in written) else [("*", str(DEFAULT[side]))]
        found.append(RuleTable(_SIDES[side], "every call", [*written, *rest]))
    return found


def _written(table: Rules) -> list[tuple[str, str]]:
    """What is written, the rule for all else at the end."""
    rows = ((name, str(rule)) for name, rule in table.items())
    return sorted(rows, key=lambda row: row[0] == "*")


def routes(parts: Parts) -> list[RouteRow]:
    """The routes in order."""
    return [
        RouteRow(
            models=route.models,
            endpoints=route.endpoints,
            when=shown_when(route),
            strategy=route.strategy,
            upstreams=shown_upstreams(route),
        )
        for route in parts.config.routes
    ]


def settings(parts: Parts) -> list[tuple[str, str]]:
    """What else decides about calls."""
    policy, config = parts.policy.table, parts.config
    allowed = policy.allowed
    return [
        ("Least confidence", f"{policy.confidence:g}"),
        ("Encoded texts are decoded and searched", _yes(policy.decode)),
        ("Masked with values that look real", _yes(policy.fakes)),
        (
            "Texts that are no findings",
            f"{len(allowed.values)} values, {len(allowed.patterns)} patterns, {len(allowed.sha256)} digests",
        ),
        ("Calls without a key", config.access.anonymous or "refused"),
        ("Unknown parameters", config.parameters.unknown),
        ("What cannot be scanned", config.parameters.unscannable),
        ("Refused parameters", _few(config.parameters.refused)),
    ]


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _MOST_SHOWN
    return ", ".join(listed[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
