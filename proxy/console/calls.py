"""Calls as lists show them, which of them are looked for, and one of them with all that is known of it."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from proxy.audit.calls import Call, Query, begun, ended
from proxy.audit.records import Entry
from proxy.console.backwards import Budget, Timed, newest_first, sizes
from proxy.console.sight import SHORT, seen

OVER: Final = ("outcome", "recovered")
#: Bytes of the trail that are searched for one call.
_FOR_ONE: Final = 256 << 20
#: An intent is written within this many seconds of the time at which its call says it began.
_SLACK: Final = 5.0
#: A call that began before a time may end this much later.
_LONGEST: Final = timedelta(hours=1)
_MOST_FINDINGS: Final = 1000
_YEARS: Final = range(1970, 9999)
#: The clock of the records, in seconds.
_TICK: Final = 1e-6


class Summary(Struct, frozen=True, kw_only=True):
    """One call that is over; every text is short and shows nothing but itself. ``at`` is when it ended."""

    id: str
    at: float
    outcome: str
    began: str = ""
    endpoint: str = ""
    status: str = ""
    principal: str = ""
    team: str = ""
    model: str = ""
    code: str = ""
    denied_by: str = ""
    stream: bool = False
    seconds: float | None = None
    proxy_seconds: float | None = None
    tokens: int = 0
    findings: tuple[tuple[str, str], ...] = ()


class Found(Struct, frozen=True):
    """The calls of one page, newest first; ``older`` is where the next page begins.

    ``cut``: there was more to look through than one page looks through.
    """

    calls: list[Summary]
    older: float | None
    cut: bool


def summary(at: float, call: Call) -> Summary:
    """What a list shows of a call; nothing in it is believed to be what it should be."""
    fields = call.fields
    return Summary(
        id=text(call.id),
        at=at,
        began=text(call.time),
        outcome=text(call.outcome),
        status=text(fields.get("status")),
        stream=fields.get("stream") is True,
        seconds=finite(call.number("seconds")),
        proxy_seconds=finite(call.number("proxy_seconds")),
        tokens=int(finite(call.number("total_tokens", inside="usage")) or 0),
        team=text(call.team),
        findings=tuple(
            (text(found.get("kind")), text(found.get("action")))
            for found in call.findings[:_MOST_FINDINGS]
        ),
        **{
            name: text(call.text(name))
            for name in ("endpoint", "principal", "model", "code", "denied_by")
        },
    )


def text(value: Any) -> str:
    """A value as a short text."""
    return "" if value is None else seen(value if isinstance(value, str) else str(value), SHORT)


def finite(value: float | None) -> float | None:
    """A number, unless it is an absurd one."""
    usable = value is not None and math.isfinite(value) and abs(value) < 1e15  # noqa: PLR2004
    return value if usable else None


def search(
    directory: str, query: Query, most: int, budget: Budget, before: float | None = None
) -> Found:
    """The ``most`` newest calls that fit and ended until ``before``, as far as the budget reaches.

    Raises ``OSError``.
    """
    calls: list[Summary] = []
    since = query.since.timestamp() if query.since is not None else -math.inf
    latest = before
    if query.until is not None:
        latest = min(before or math.inf, (query.until + _LONGEST).timestamp())
    reached: float | None = None
    for at, call in _joined(newest_first(sizes(directory), ("intent", *OVER), budget, latest)):
        if budget.spent or at < since:
            break
        if len(calls) == most:
            return Found(calls, at, cut=False)
        reached = at
        if query.matches(call):
            calls.append(summary(at, call))
    older = reached - _TICK if budget.spent and reached is not None else None
    return Found(calls, older, cut=budget.spent)


def _joined(lines: Iterable[Timed]) -> Iterator[tuple[float, Call]]:
    """Calls that are over; of a recovered one all that is known stands in its intent, which comes later here."""
    waiting: dict[str, Timed] = {}
    met: set[str] = (
        set()
    )  # outcomes of a segment that was given up are written again into the next one
    for at, entry in lines:
        id_ = str(entry.body.get("id"))
        if entry.kind == "recovered":
            waiting[id_] = at, entry
        elif entry.kind == "intent":
            if id_ in waiting:
                yield at, ended(begun(entry), waiting.pop(id_)[1])
        elif id_ not in met:
            met.add(id_)
            yield at, ended(None, entry)
    yield from ((at, ended(None, entry)) for at, entry in waiting.values())


def entries(directory: str, id_: str) -> tuple[list[Entry], bool]:
    """All that the trail says of one call, oldest first, and whether there was more to look through.

    Raises ``OSError``.
    """
    budget = Budget(_FOR_ONE)
    found: list[Entry] = []
    first = -math.inf
    for at, entry in newest_first(sizes(directory), ("intent", *OVER), budget):
        if at < first:
            break
        if entry.body.get("id") == id_:
            found.append(entry)
            first = max(first, _begun(entry) - _SLACK)
    return found[::-1], budget.spent


def _begun(entry: Entry) -> float:
    """When the call of an outcome began; unknown times are long ago."""
    try:
        return datetime.fromisoformat(str(entry.body["time"])).timestamp()
    except (KeyError, ValueError, OverflowError):
        return -math.inf


def together(found: Iterable[Entry]) -> Call | None:
    """One call of its records, oldest first."""
    call: Call | None = None
    for entry in found:
        call = begun(entry) if entry.kind == "intent" else ended(call, entry)
    return call


def query(form: Mapping[str, str]) -> Query:
    """What a form asks for; raises ``ValueError`` with a sentence for a time that is none."""
    given = {
        name: value
        for name in FIELDS
        if (value := form.get(name, "").strip()[:SHORT]) and value != "*"
    }
    return Query(**given, since=moment(form.get("since", "")), until=moment(form.get("until", "")))


#: What a list can be narrowed by, in the order of the form.
FIELDS: Final = (
    "outcome",
    "principal",
    "team",
    "model",
    "endpoint",
    "code",
    "finding",
    "plugin",
    "verdict",
)


def moment(written: str) -> datetime | None:
    """A time of a form, UTC unless it says otherwise."""
    if not written.strip():
        return None
    found = None
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(written.strip())
    if found is None or found.year not in _YEARS:
        raise ValueError(
            f"{seen(written, 40)!r} is no time: write for example 2026-01-31 or 2026-01-31T12:00"
        )
    return found if found.tzinfo else found.replace(tzinfo=UTC)
