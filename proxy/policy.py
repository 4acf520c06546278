"""Detection is not decision: detectors find, ``[policy]`` says what happens to what they found."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from proxy.chain import PluginFault, Scope, Trail, fault_denial
from proxy.model import Action, Call, Deny, Finding
from proxy.patterns import linear
from proxy.texts import Place, Text, place_name, replace, texts

log: Final = logging.getLogger("outgate.policy")
Span: TypeAlias = tuple[int, int]
_MOST_NAMED: Final = 3


class PolicyTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[policy.request]`` and ``[policy.response]``: kind → action; ``"*"`` is every other kind."""

    request: dict[str, Action] = {}
    response: dict[str, Action] = {}


class Detector(Struct, frozen=True):
    """Finds one kind of thing in a text; decides nothing.

    ``find(text)`` yields (start, end) in characters. Use ``Detector.regex`` wherever a pattern will do.
    """

    kind: str
    find: Callable[[str], Iterable[Span]]

    @classmethod
    def regex(cls, kind: str, pattern: str) -> "Detector":
        """A detector from a pattern in RE2's linear-time dialect; raises ``ConfigError`` for any other."""
        compiled = linear(pattern)

        def find(text: str) -> Iterator[Span]:
            return (match.span() for match in compiled.finditer(text))

        return cls(kind, find)


class Watch(Struct, frozen=True):
    """A detector with the plugin entry that brought it; ``monitor`` outranks the policy."""

    detector: Detector
    plugin: str
    scope: Scope = Scope()
    monitor: bool = False
    allow_on_error: bool = False


class Rules(Struct, frozen=True):
    """One side of the policy: kind → action, and what happens to a kind that no rule names."""

    side: Literal["request", "response"]
    table: Mapping[str, Action]
    default: Action

    def action(self, kind: str) -> Action:
        """What the operator wants done with ``kind``."""
        return self.table.get(kind) or self.table.get("*") or self.default


def judge(
    call: Call, body: Any, watches: Iterable[Watch], rules: Rules, trail: Trail
) -> tuple[Any, tuple[Deny, str] | None]:
    """Scan ``body``: the body with its redactions made, and the refusal (with the plugin's name) if there is one."""
    active = [
        (watch, rules.action(watch.detector.kind))
        for watch in watches
        if watch.scope.covers_call(call)
    ]
    spans: dict[Place, list[tuple[int, int, str]]] = {}
    for watch, action in active:
        if action == "allow":
            continue
        try:
            found = list(_search(watch, action, body))
        except PluginFault:
            log.exception("detector %s of plugin %s failed", watch.detector.kind, watch.plugin)
            if watch.monitor or watch.allow_on_error:
                continue
            return body, (fault_denial(watch.plugin), watch.plugin)
        trail.findings += [finding for finding, _, _ in found]
        for finding, place, span in found:
            if finding.action == "redact":
                spans.setdefault(place, []).append((*span, finding.kind))
    denied = [finding for finding in trail.findings if finding.action == "deny"]
    if denied:
        return body, (_refusal(rules, denied), denied[0].plugin)
    return _redacted(body, spans), None


def _search(watch: Watch, action: Action, body: Any) -> Iterator[tuple[Finding, Place, Span]]:
    for text in texts(body):
        for start, end in watch.detector.find(text.value):
            if end > start:
                kept = _kept(watch, action, text)
                yield (
                    Finding(watch.detector.kind, place_name(text.place), watch.plugin, kept),
                    text.place,
                    (start, end),
                )


def _kept(watch: Watch, action: Action, text: Text) -> Action:
    if watch.monitor:
        return "monitor"
    # A key cannot be redacted without changing what the body means.
    return "deny" if text.is_key and action == "redact" else action


def _redacted(body: Any, spans: Mapping[Place, list[tuple[int, int, str]]]) -> Any:
    if not spans:
        return body
    values = {text.place: text.value for text in texts(body) if not text.is_key}
    return replace(body, {place: redact(values[place], found) for place, found in spans.items()})


def redact(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
    """``text`` with each span replaced by ``[KIND]``; overlapping spans become one."""
    pieces: list[str] = []
    done = 0
    for start, end, kind in sorted(spans):
        if start >= done:
            pieces += [text[done:start], f"[{kind.upper()}]"]
        done = max(done, end)
    return "".join([*pieces, text[done:]])


def _refusal(rules: Rules, denied: list[Finding]) -> Deny:
    kinds = ", ".join(sorted({finding.kind for finding in denied}))
    places = list(dict.fromkeys(finding.place for finding in denied))
    named = ", ".join(places[:_MOST_NAMED]) + (
        " and elsewhere" if len(places) > _MOST_NAMED else ""
    )
    if rules.side == "response":
        return Deny(f"The reply was withheld by policy: it held {kinds}.", status=400)
    return Deny(
        f"Refused by policy: {kinds} in {named}. Remove it and send the call again.",
        param=places[0],
    )
