"""Screens a request: every text that would leave, what was found in it, and what the policy makes of that."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple

from msgspec import Struct

from proxy.detect.engine import Span
from proxy.edits import Edit, edited, is_json
from proxy.mask import Vault, conversation_key
from proxy.model import Action, Call, Deny
from proxy.param_tables import TABLES
from proxy.policy import Active, Policy, Refusal, Refused, Watch
from proxy.records import Finding
from proxy.steps import Trail
from proxy.texts import Place, Text, place_name, replace, texts

_MOST_NAMED: Final = 3
_GLUES: Final = ("", " ")  # between texts that are read as one
#: Places of a request where an edit would change more than a text.
_FIXED: Final = (("model",), ("headers",))
#: Names of the API itself, which nobody hides anything in.
_KNOWN_KEYS: Final = frozenset(name for table in TABLES.values() for name in table) | {
    "role", "content", "type", "text", "function", "arguments", "id", "name", "description", "properties",
    "required", "parameters", "tool_call_id", "tool_calls", "strict", "schema", "json_schema", "items", "enum",
}  # fmt: skip


class Hit(NamedTuple):
    """Something found in one text of a body; start and end in characters of the text."""

    watch: Watch
    action: Action
    text: Text
    start: int
    end: int


class Screened(Struct, frozen=True):
    """The outcome: the body as it may leave, the refusal with the plugin's name, and what was masked."""

    body: Any
    refusal: Refusal | None = None
    vault: Vault | None = None


class Screen:
    """Applies the policy to requests. ``headers`` are those that an upstream may get."""

    def __init__(self, policy: Policy, headers: Iterable[str] = ()) -> None:
        self._policy = policy
        self._headers = tuple(headers)

    def judge(self, call: Call, trail: Trail) -> Screened:
        """Scan what would leave; findings go to ``trail``."""
        active = self._policy.active(call, "request")
        if not active:
            return Screened(call.body)
        surface = list(self._surface(call))
        try:
            hits = self._policy.attempt(partial(self._search, surface, active), active, trail)
        except Refused as refused:
            return Screened(call.body, refused.refusal)
        found = findings(hits)
        trail.findings += found
        denied = [finding for finding in found if finding.action == "deny"]
        if denied:
            return Screened(call.body, (_refusal(denied), denied[0].plugin))
        vault = self._vault(call, hits, surface)
        return Screened(apply(call.body, hits, vault), vault=vault)

    def _vault(self, call: Call, hits: Iterable[Hit], surface: Iterable[Text]) -> Vault | None:
        if not any(hit.action == "mask" for hit in hits):
            return None
        fakes = self._policy.table.fakes
        avoid = [text.value for text in surface] if fakes else ()
        return Vault(key=self._key(call), fakes=fakes, avoid=avoid)

    def _key(self, call: Call) -> bytes | None:
        """The key of the conversation that the call says it belongs to, if any."""
        conversation = self._policy.table.conversation
        name = call.headers.get(conversation.header.lower()) if conversation else None
        if conversation is None or not name:
            return None
        return conversation_key(conversation.key.reveal().encode(), call.principal.name, name)

    def _surface(self, call: Call) -> Iterator[Text]:
        """Every text that leaves: the body's, those of headers that are sent on, a model named in the path."""
        yield from (t for t in texts(call.body) if not (t.is_key and t.value in _KNOWN_KEYS))
        for name in self._headers:
            if name in call.headers:
                yield Text(("headers", name), call.headers[name])
        if call.endpoint == "model":
            yield Text(("model",), call.model or "")

    def _search(self, surface: Sequence[Text], active: Active) -> list[Hit]:
        found = [
            (text, span)
            for text in surface
            for span in self._policy.find(text.value, active.chosen, decode=True)
        ]
        # What two ways to join find alike is one finding.
        found += dict.fromkeys(joined(self._policy, _adjacent(surface), active.chosen))
        told = [(span.detector, text.value[span.start : span.end]) for text, span in found]
        actions = active.settled(told) if active.quotas else active.actions
        hits = (self._hit(actions[span.detector], text, span) for text, span in found)
        return [hit for hit in hits if hit.action != "allow"]

    def _hit(self, action: Action, text: Text, span: Span) -> Hit:
        watch = self._policy.watches[span.detector]
        return Hit(watch, _kept(action, text), text, span.start, span.end)


def joined(
    policy: Policy, groups: Iterable[Sequence[Text]], chosen: frozenset[int]
) -> Iterator[tuple[Text, Span]]:
    """What stands across the border of adjacent texts, which a reader would read as one."""
    for group in groups:
        for glue in _GLUES:
            ends = list(accumulate(len(text.value) + len(glue) for text in group))
            for span in policy.find(glue.join(text.value for text in group), chosen):
                first, last = (bisect_right(ends, at) for at in (span.start, span.end - 1))
                for number in range(first, last + 1) if last > first else ():
                    text = group[number]
                    begin = ends[number] - len(text.value) - len(glue)
                    start = max(span.start - begin, 0)
                    end = min(span.end - begin, len(text.value))
                    if end > start:
                        yield text, Span(start, end, span.detector)


def findings(hits: Iterable[Hit]) -> list[Finding]:
    """The findings for the record. A key in which something was found is not named on the way to it either."""
    hits = list(hits)
    flagged = {hit.text.place for hit in hits if hit.text.is_key}
    return [
        Finding(
            hit.watch.detector.kind, _named(hit.text.place, flagged), hit.watch.plugin, hit.action
        )
        for hit in hits
    ]


def apply(body: Any, hits: Iterable[Hit], vault: Vault | None) -> Any:
    """``body`` with every redaction and mask made, in keys too; ``body`` itself where there is none."""
    edits: dict[Text, list[Edit]] = {}
    for hit in hits:
        if hit.action in ("redact", "mask"):
            edit = Edit(hit.start, hit.end, hit.watch.detector.kind, hit.action == "mask")
            edits.setdefault(hit.text, []).append(edit)
    new = {
        text: edited(text.value, found, vault, inside_json=is_json(text.place))
        for text, found in edits.items()
    }
    values = {text.place: value for text, value in new.items() if not text.is_key}
    keys = {text.place: value for text, value in new.items() if text.is_key}
    return replace(body, values, keys=keys) if new else body


def _kept(action: Action, text: Text) -> Action:
    # A key cannot be edited without changing what the body means, nor the model that is asked for without
    # making it another one than the guardrails approved; a header is not ours to edit.
    fixed = text.is_key or text.place[:1] in _FIXED
    return "deny" if fixed and action in ("redact", "mask") else action


def _adjacent(surface: Sequence[Text]) -> Iterator[list[Text]]:
    """Texts that are read one after the other: the prompts of a list, the messages of a chat."""
    for key, is_content in (("prompt", _is_item), ("input", _is_item), ("messages", _is_content)):
        group = [text for text in surface if text.place[:1] == (key,) and is_content(text)]
        if len(group) > 1:
            yield group


def _is_item(text: Text) -> bool:
    return not text.is_key and len(text.place) > 1


def _is_content(text: Text) -> bool:
    return not text.is_key and text.place[-1] in ("content", "text")


def _named(place: Place, flagged: Collection[Place]) -> str:
    steps = ("{key}" if place[: i + 1] in flagged else step for i, step in enumerate(place))
    return place_name(tuple(steps))


def _refusal(denied: Sequence[Finding]) -> Deny:
    kinds = ", ".join(sorted({finding.kind for finding in denied}))
    places = list(dict.fromkeys(finding.place for finding in denied))
    more = " and elsewhere" if len(places) > _MOST_NAMED else ""
    named = ", ".join(places[:_MOST_NAMED]) + more
    message = f"Refused by policy: {kinds} in {named}. Remove it and send the call again."
    return Deny(message, param=places[0])
