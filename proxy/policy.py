"""Detection is not decision: detectors find, ``[policy]`` says what happens to what they found."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from proxy.chain import Scope, Step, Trail
from proxy.model import Action, Call, Deny, Finding
from proxy.patterns import linear
from proxy.texts import Place, Text, place_name, replace, texts

Span: TypeAlias = tuple[int, int]
_Span: TypeAlias = tuple[int, int, str]
#: Places of a request where a redaction would change more than a text.
_FIXED: Final = (("model",), ("headers",))
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
    """A detector with the plugin entry that brought it; ``monitor`` outranks the policy, ``deadline`` in seconds."""

    detector: Detector
    plugin: str
    scope: Scope = Scope()
    monitor: bool = False
    allow_on_error: bool = False
    deadline: float = 5.0

    def step(self, search: Callable[[], Any]) -> Step:
        """``search`` as a step of the chain, so that it is timed, isolated and judged like any other."""
        return Step(
            plugin=self.plugin,
            hook="detectors",
            function=search,
            arguments=(),
            monitor=self.monitor,
            allow_on_error=self.allow_on_error,
            deadline=self.deadline,
        )


class Rules(Struct, frozen=True):
    """One side of the policy: kind → action, and what happens to a kind that no rule names."""

    side: Literal["request", "response"]
    table: Mapping[str, Action]
    default: Action
    headers: tuple[str, ...] = ()

    def action(self, kind: str) -> Action:
        """What the operator wants done with ``kind``."""
        return self.table.get(kind) or self.table.get("*") or self.default


class _Hit(NamedTuple):
    watch: Watch
    action: Action
    text: Text
    span: Span


def judge(
    call: Call, body: Any, watches: Iterable[Watch], rules: Rules, trail: Trail
) -> tuple[Any, tuple[Deny, str] | None]:
    """Scan ``body``: the body with its redactions made, and the refusal (with the plugin's name) if there is one."""
    hits: list[_Hit] = []
    surface = list(_surface(call, body, rules))
    for watch in watches:
        if rules.action(watch.detector.kind) == "allow" or not watch.scope.covers_call(call):
            continue
        found, refusal = _found(watch, rules, surface, trail)
        if refusal is not None:
            return body, (refusal, watch.plugin)
        hits += found
    findings = _findings(hits)
    trail.findings += findings
    denied = [finding for finding in findings if finding.action == "deny"]
    if denied:
        return body, (_refusal(rules, denied), denied[0].plugin)
    return _redacted(body, hits), None


def _surface(call: Call, body: Any, rules: Rules) -> Iterator[Text]:
    """Every text that leaves: the body's, those of headers that are sent on, a model named in the path."""
    yield from texts(body)
    for name in rules.headers:
        if name in call.headers:
            yield Text(("headers", name), call.headers[name])
    if rules.side == "request" and call.endpoint == "model":
        yield Text(("model",), call.model or "")


def _found(
    watch: Watch, rules: Rules, surface: Iterable[Text], trail: Trail
) -> tuple[list[_Hit], Deny | None]:
    step = watch.step(lambda: list(_search(watch, rules, surface)))
    found, fault = trail.attempt(step)
    if fault is None:
        return found, None
    # What a slow detector did find counts, also where its errors are allowed.
    return found or [], trail.fault(step, f"{watch.detector.kind}: {fault}")


def _search(watch: Watch, rules: Rules, surface: Iterable[Text]) -> Iterator[_Hit]:
    for text in surface:
        for start, end in watch.detector.find(text.value):
            if not (type(start) is type(end) is int and 0 <= start <= end <= len(text.value)):
                raise ValueError("a span that is no (start, end) within the text")
            if end > start:
                yield _Hit(watch, _kept(watch, rules, text), text, (start, end))


def _kept(watch: Watch, rules: Rules, text: Text) -> Action:
    if watch.monitor:
        return "monitor"
    action = rules.action(watch.detector.kind)
    # A key cannot be redacted without changing what the body means, nor the model that is asked for
    # without making it another one than the guardrails approved; a header is not ours to edit.
    fixed = text.is_key or (rules.side == "request" and text.place[:1] in _FIXED)
    return "deny" if action == "redact" and fixed else action


def _findings(hits: Iterable[_Hit]) -> list[Finding]:
    """The findings for the record. A key in which something was found is not named on the way to it either."""
    hits = list(hits)
    flagged = {hit.text.place for hit in hits if hit.text.is_key}
    return [
        Finding(
            hit.watch.detector.kind, _named(hit.text.place, flagged), hit.watch.plugin, hit.action
        )
        for hit in hits
    ]


def _named(place: Place, flagged: Collection[Place]) -> str:
    steps = ("{key}" if place[: i + 1] in flagged else step for i, step in enumerate(place))
    return place_name(tuple(steps))


def _redacted(body: Any, hits: Iterable[_Hit]) -> Any:
    spans: dict[Text, list[_Span]] = {}
    for hit in hits:
        if hit.action == "redact":
            spans.setdefault(hit.text, []).append((*hit.span, hit.watch.detector.kind))
    changes = {text.place: redact(text.value, found) for text, found in spans.items()}
    return replace(body, changes) if changes else body


def redact(text: str, spans: Iterable[_Span]) -> str:
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
