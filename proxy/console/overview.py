"""The overview: an hour or a day as tiles and charts."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from proxy.console.charts import WIDE, Chart, stacked
from proxy.console.history import MINUTE, Minute, Picture, quantile, together
from proxy.console.sight import clock, count, duration
from proxy.console.view import OUTCOMES

#: What can be chosen: its name, its length and that of a column of its charts, in minutes.
SPANS: Final[Mapping[str, tuple[str, int, int]]] = {
    "hour": ("Last hour", 60, 1),
    "day": ("Last 24 hours", 24 * 60, 30),
}
_TONES: Final = {name: tone for name, (tone, _) in OUTCOMES.items()}
_FAILED: Final = ("upstream_error", "truncated")


class Tile(Struct, frozen=True):
    """A figure, and what to compare it with."""

    name: str
    figure: str
    note: str
    tone: str = ""


class Overview(Struct, frozen=True):
    """``incomplete`` is the time before which something is missing."""

    tiles: tuple[Tile, ...]
    calls: Chart
    refusals: Chart
    findings: Chart
    incomplete: float | None


def overview(picture: Picture, span: str, now: float) -> Overview:
    """What is shown of the time up to ``now``."""
    _, length, step = SPANS[span]
    last = int(now // MINUTE)
    # Columns begin at round times, so that they stay what they are while time goes on.
    end = last // step * step + step
    begin = end - length
    columns = [
        (clock(start * MINUTE, "%H:%M"), _between(picture, start, start + step))
        for start in range(begin, end, step)
    ]
    per = f"per {'minute' if step == 1 else f'{step} minutes'}"
    whole = together(minute for _, minute in columns)
    return Overview(
        tiles=_tiles(whole),
        calls=stacked(
            f"Calls by outcome, {per}",
            "calls",
            _each(columns, lambda m: m.outcomes),
            _TONES,
            WIDE,
        ),
        refusals=stacked(
            f"Refusals by reason, {per}", "refusals", _each(columns, lambda m: m.refusals)
        ),
        findings=stacked(f"Findings by kind, {per}", "findings", _each(columns, _kinds)),
        incomplete=picture.complete if picture.complete > begin * MINUTE else None,
    )


def _between(picture: Picture, begin: int, end: int) -> Minute:
    return together(picture.minutes[i] for i in range(begin, end) if i in picture.minutes)


def _kinds(minute: Minute) -> Counter[str]:
    found: Counter[str] = Counter()
    for (kind, _), number in minute.findings.items():
        found[kind] += number
    return found


def _each(
    columns: Iterable[tuple[str, Minute]], of: Callable[[Minute], Mapping[str, int]]
) -> list[tuple[str, Mapping[str, int]]]:
    return [(at, of(minute)) for at, minute in columns]


def _tiles(whole: Minute) -> tuple[Tile, ...]:
    calls, found = sum(whole.outcomes.values()), sum(whole.findings.values())
    refused = whole.outcomes["denied"]
    failed = sum(whole.outcomes[name] for name in _FAILED)
    actions: Counter[str] = Counter()
    for (_, action), number in whole.findings.items():
        actions[action] += number
    half, most = quantile(whole.added, 0.5), quantile(whole.added, 0.95)
    return (
        Tile("Calls", count(calls), f"{count(whole.outcomes['ok'])} answered"),
        Tile("Refused", count(refused), _share(refused, calls), "denied" if refused else ""),
        Tile("Findings", count(found), _actions(actions)),
        Tile("Upstream trouble", count(failed), _share(failed, calls), "error" if failed else ""),
        Tile("Tokens", count(whole.tokens), "as upstreams count"),
        Tile("Added by Outgate", _time(half), f"median; 95 of 100 below {_time(most)}"),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % of calls" if whole else "no calls"


def _actions(actions: Counter[str]) -> str:
    listed = [f"{count(number)} {name}" for name, number in actions.most_common(3)]
    return ", ".join(listed) or "nothing found"


def _time(milliseconds: float | None) -> str:
    return duration(None if milliseconds is None else milliseconds / 1000)
