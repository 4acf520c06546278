"""Spend by team and model: the one place where the page asks the store."""

import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.console.charts import Share, shares
from proxy.console.sight import SHORT, count, seen
from proxy.errors import Unavailable
from proxy.parts import Parts

_NANO: Final = 10**9
_MOST_ROWS: Final = 20
#: What can be chosen: its name, and how long ago it begins, in seconds.
PERIODS: Final[Mapping[str, tuple[str, int]]] = {
    "day": ("Last 24 hours", 24 * 3600),
    "week": ("Last 7 days", 7 * 24 * 3600),
    "month": ("Last 30 days", 30 * 24 * 3600),
}
BY: Final = ("team", "model", "key")


class Row(Struct, frozen=True):
    """What one team, model or key used; ``cost`` is a text with its currency."""

    name: str
    currency: str
    calls: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    cost: str


class Part(Struct, frozen=True):
    """One way to divide what was spent; a list of bars for each currency, and a table."""

    by: str
    bars: tuple[tuple[str, tuple[Share, ...]], ...]
    rows: tuple[Row, ...]
    left_out: int


class Spend(Struct, frozen=True):
    """The page; where nothing can be shown, ``problem`` says why."""

    parts: tuple[Part, ...] = ()
    totals: tuple[Row, ...] = ()
    problem: str | None = None


def spend(parts: Parts, period: str) -> Spend:
    """What the store's usage book says."""
    store = parts.store
    if store is None:
        return Spend(problem="No store: add [store] and a plugin that counts, such as budget.")
    since = int(time.time()) - PERIODS[period][1]
    try:
        several = tuple(_part(by, store.usage.report([by], since=since)) for by in BY)
        totals = tuple(map(_row_of("all"), store.usage.report([], since=since)))
    except Unavailable:
        return Spend(problem="The store does not answer; the log says why.")
    return Spend(several, totals)


def _part(by: str, report: list[dict[str, Any]]) -> Part:
    ordered = sorted(report, key=lambda row: (-row["cost"], -row["calls"]))
    currencies = dict.fromkeys(str(row["currency"]) for row in ordered)
    bars = tuple((each, _bars(by, ordered, each)) for each in currencies)
    rows = tuple(map(_row_of(by), ordered[:_MOST_ROWS]))
    return Part(by, bars, rows, max(0, len(ordered) - _MOST_ROWS))


def _bars(by: str, rows: list[dict[str, Any]], currency: str) -> tuple[Share, ...]:
    """What cost nothing is measured by its tokens."""
    chosen = [row for row in rows if str(row["currency"]) == currency]
    paid = any(row["cost"] for row in chosen)
    chosen = sorted(chosen, key=lambda row: row["cost"] if paid else _tokens(row), reverse=True)[:8]
    return shares(
        [
            (
                _name(row[by]),
                row["cost"] if paid else _tokens(row),
                money(row["cost"], currency) if paid else f"{count(_tokens(row))} tokens",
                f"{count(row['calls'])} calls",
            )
            for row in chosen
        ]
    )


def _tokens(row: Mapping[str, Any]) -> int:
    return int(row["prompt_tokens"] + row["completion_tokens"])


def _row_of(by: str) -> Any:
    def row(found: Mapping[str, Any]) -> Row:
        currency = str(found["currency"])
        return Row(
            _name(found.get(by, by)),
            currency,
            found["calls"],
            found["refused"],
            found["prompt_tokens"],
            found["completion_tokens"],
            money(found["cost"], currency),
        )

    return row


def _name(value: Any) -> str:
    return seen(str(value), SHORT) or "none"


def money(nano: int, currency: str) -> str:
    """Nano-units of a currency for people."""
    if not currency and not nano:
        return "–"
    digits = 2 if nano >= _NANO else 4
    return f"{nano / _NANO:,.{digits}f} {seen(currency, 12)}".strip()
