"""One call in full: its facts in groups, its times as a picture, what each plugin said."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.audit.calls import CONTENT, Call
from proxy.console.calls import finite, text
from proxy.console.sight import count, duration, size

_MOST_ROWS: Final = 500
_SIZES: Final = frozenset({"bytes_in", "bytes_sent", "bytes_out"})
#: Times of a call, as people call them.
_TIMES: Final[Mapping[str, str]] = {
    "seconds": "in all",
    "proxy_seconds": "added by Outgate",
    "sent_seconds": "sent on after",
    "first_byte_seconds": "first byte after",
    "upstream_seconds": "answered after",
}
_NAMES: Final[Mapping[str, str]] = {
    **_TIMES,
    "time": "began",
    "digest": "SHA-256",
    "cost_nano": "cost",
}
#: The fields of a record by what they speak of; what has no place here is under "Further".
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Caller": ("principal", "groups", "metadata", "client"),
    "Request": ("endpoint", "model", "stream", "bytes_in", "digest", "removed", "retry_count"),
    "Upstream": (
        "upstream",
        "upstream_address",
        "upstream_status",
        "upstream_request_id",
        "attempts",
        "bytes_sent",
        "bridged",
        "bridged_digest",
        "upstream_seconds",
    ),
    "Reply": (
        "status",
        "code",
        "denied_by",
        "answered_by",
        "finish_reasons",
        "bytes_out",
        "events",
        "completion_characters",
        "usage",
        "cost_nano",
    ),
    "Times": ("time", "seconds", "proxy_seconds", "sent_seconds", "first_byte_seconds"),
}
#: Shown by themselves, or in the heading.
_ELSEWHERE: Final = frozenset({"id", "outcome", "verdicts", "findings", "failures", CONTENT})


class Stretch(Struct, frozen=True):
    """A part of the time of a call, in percent of all of it."""

    name: str
    tone: str
    begin: float
    width: float
    text: str


class Details(Struct, frozen=True):
    """The page; every cell is a short text."""

    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    verdicts: tuple[tuple[str, str, str, str, str], ...]
    findings: tuple[tuple[str, str, str, str], ...]
    failures: tuple[tuple[str, str, str], ...]
    stretches: tuple[Stretch, ...]
    content: str | None


def details(call: Call) -> Details:
    """What there is to show of a call; a field may hold anything."""
    known = {name for names in GROUPS.values() for name in names} | _ELSEWHERE
    groups = [(title, _facts(call, names)) for title, names in GROUPS.items()]
    groups.append(("Further", _facts(call, tuple(n for n in call.fields if n not in known)[:50])))
    return Details(
        groups=tuple((title, facts) for title, facts in groups if facts),
        verdicts=tuple(map(_verdict, call.verdicts[:_MOST_ROWS])),
        findings=tuple(
            (
                text(f.get("kind")),
                text(f.get("action")),
                text(f.get("place")),
                text(f.get("plugin")),
            )
            for f in call.findings[:_MOST_ROWS]
        ),
        failures=tuple(
            (text(f.get("upstream")), text(f.get("kind")), text(f.get("detail")))
            for f in call.items("failures")[:_MOST_ROWS]
        ),
        stretches=_stretches(call),
        content=_content(call),
    )


def _facts(call: Call, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = ((name, call.fields.get(name)) for name in names)
    return tuple(
        (_NAMES.get(name) or text(name).replace("_", " "), _fact(name, value))
        for name, value in found
        if value not in (None, "", [], {}, False)
    )


def _fact(name: str, value: Any) -> str:
    if name == "time":
        return text(value).replace("T", " ", 1).replace("+00:00", " UTC")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        number = finite(value)
        if name in _SIZES:
            return size(number)
        if name == "cost_nano" and number is not None:
            return f"{number / 1e9:,.6f}"
        return duration(number) if name in _TIMES else text(value)
    if isinstance(value, Mapping):
        return text(", ".join(f"{key}: {_plain(item)}" for key, item in list(value.items())[:20]))
    if isinstance(value, list | tuple):
        return text(", ".join(map(_plain, value[:20])))
    return text(value)


def _plain(value: Any) -> str:
    return count(value) if type(value) is int else text(value)


def _verdict(found: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    taken = found.get("milliseconds")
    usable = finite(taken) if isinstance(taken, int | float) else None
    return (
        text(found.get("plugin")),
        text(found.get("hook")),
        text(found.get("verdict")),
        duration(None if usable is None else usable / 1000),
        text(found.get("detail")),
    )


def _stretches(call: Call) -> tuple[Stretch, ...]:
    """Before it was sent on, until the first byte came back, and until the last."""
    whole = finite(call.number("seconds"))
    if not whole or whole <= 0:
        return ()
    sent, first = (finite(call.number(name)) for name in ("sent_seconds", "first_byte_seconds"))
    if sent is None:
        return (_stretch("here, nothing was sent", "here", 0, whole, whole),)
    first = whole if first is None else first
    marks = [0.0, min(max(sent, 0.0), whole)]
    marks += [min(max(first, marks[1]), whole), whole]
    names = (
        ("until it was sent on", "here"),
        ("until the first byte came back", "wait"),
        ("until the last byte", "reply"),
    )
    return tuple(
        _stretch(name, tone, begin, end, whole)
        for (name, tone), begin, end in zip(names, marks, marks[1:], strict=False)
        if end > begin
    )


def _stretch(name: str, tone: str, begin: float, end: float, whole: float) -> Stretch:
    share = 100 / whole
    width = round((end - begin) * share, 3)
    return Stretch(name, tone, round(begin * share, 3), width, duration(end - begin))


def _content(call: Call) -> str | None:
    """What is said of encrypted texts: that they are there."""
    found = call.fields.get(CONTENT)
    return ", ".join(map(text, found)) if isinstance(found, dict) and found else None
