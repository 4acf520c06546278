"""Charts as numbers: where each bar of a picture stands, and the table that says the same."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

#: Half of a page, a whole one, and a telephone; in CSS pixels, so that letters have the size of letters.
WIDTH: Final = 600
WIDE: Final = 1220
NARROW: Final = 330
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 24
#: Series that are told apart by colour; those behind them are one.
MOST_SERIES: Final = 6
_TICKS: Final = 4
_LABELS: Final = 110
#: Tenths of a step of the axis.
_STEPS: Final = (10, 15, 20, 25, 30, 40, 50, 60, 80)
_GAP: Final = 0.18
#: The least height of what is not nothing, so that a single refusal among thousands of calls is seen.
_LEAST: Final = 2.0


class Bar(Struct, frozen=True):
    """One rectangle; ``tone`` is the name of its colour."""

    x: float
    y: float
    width: float
    height: float
    tone: str


class Column(Struct, frozen=True):
    """All that happened in one stretch of time; ``title`` says it in words."""

    x: float
    width: float
    title: str
    bars: tuple[Bar, ...]


class Tick(Struct, frozen=True):
    """A mark on an axis."""

    at: float
    text: str


class Series(Struct, frozen=True):
    """One colour of a chart: what it stands for, and how many there were."""

    name: str
    tone: str
    total: int


class Chart(Struct, frozen=True, kw_only=True):
    """A stacked bar chart over time; ``rows`` are its columns as a table, without those in which nothing was."""

    name: str
    unit: str
    columns: tuple[Column, ...]
    series: tuple[Series, ...]
    ticks_y: tuple[Tick, ...]
    ticks_x: tuple[Tick, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    total: int
    width: int
    right: int
    height: int = HEIGHT
    left: int = _LEFT
    base: int = HEIGHT - _BOTTOM
    narrow: "Chart | None" = None


def stacked(
    name: str,
    unit: str,
    buckets: Sequence[tuple[str, Mapping[str, int]]],
    tones: Mapping[str, str] | None = None,
    width: int = WIDTH,
) -> Chart:
    """A chart, and the same for a narrow screen, of ``buckets``, each a label with counts by series, the oldest first.

    Series stand in the order of ``tones``, which gives their colours; without it, the largest first.
    """
    totals: dict[str, int] = {}
    for _, counts in buckets:
        for series, number in counts.items():
            totals[series] = totals.get(series, 0) + number
    legend = _legend(totals, tones)
    values = [tuple(_of(counts, each, legend) for each in legend) for _, counts in buckets]
    top = _top(max((sum(row) for row in values), default=0))
    labels = [label for label, _ in buckets]
    return Chart(
        name=name,
        unit=unit,
        columns=_columns(list(zip(labels, values, strict=True)), legend, top, unit, width),
        series=legend,
        ticks_y=tuple(
            Tick(_y(top * i / _TICKS, top), f"{top * i // _TICKS:,}") for i in range(_TICKS + 1)
        ),
        ticks_x=_ticks_x(labels, width),
        rows=tuple((label, row) for label, row in zip(labels, values, strict=True) if any(row)),
        total=sum(totals.values()),
        width=width,
        right=width - _RIGHT,
        narrow=stacked(name, unit, buckets, tones, NARROW) if width != NARROW else None,
    )


def _legend(totals: Mapping[str, int], tones: Mapping[str, str] | None) -> tuple[Series, ...]:
    if tones is not None:
        order = sorted(totals, key=lambda name: list(tones).index(name) if name in tones else 99)
        return tuple(Series(name, tones.get(name, "other"), totals[name]) for name in order)
    order = sorted(totals, key=lambda name: (-totals[name], name))
    if len(order) > MOST_SERIES:
        order = order[: MOST_SERIES - 1]
    found = [Series(name, f"s{i}", totals[name]) for i, name in enumerate(order)]
    if rest := sum(totals.values()) - sum(each.total for each in found):
        found.append(Series("all others", "other", rest))
    return tuple(found)


def _of(counts: Mapping[str, int], series: Series, legend: tuple[Series, ...]) -> int:
    if series.name in counts or series.name != "all others":
        return counts.get(series.name, 0)
    named = {each.name for each in legend}
    return sum(number for name, number in counts.items() if name not in named)


def _top(highest: int) -> int:
    """The end of the axis: a round number that four steps divide."""
    power = 1
    while True:
        for step in _STEPS:
            if step * power % 10 == 0 and step * power // 10 * _TICKS >= highest:
                return step * power // 10 * _TICKS
        power *= 10


def _y(value: float, top: int) -> float:
    return round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * value / top, 2)


def _columns(
    rows: Sequence[tuple[str, tuple[int, ...]]],
    legend: tuple[Series, ...],
    top: int,
    unit: str,
    whole: int,
) -> tuple[Column, ...]:
    step = (whole - _LEFT - _RIGHT) / max(1, len(rows))
    found = []
    for index, (label, row) in enumerate(rows):
        if not any(row):
            continue
        x, width = round(_LEFT + step * (index + _GAP / 2), 2), round(step * (1 - _GAP), 2)
        parts = ", ".join(
            f"{each.name} {number:,}" for each, number in zip(legend, row, strict=True) if number
        )
        title = f"{label}: {sum(row):,} {unit} ({parts})"
        found.append(Column(x, width, title, tuple(_bars(x, width, row, legend, top))))
    return tuple(found)


def _bars(
    x: float, width: float, row: tuple[int, ...], legend: tuple[Series, ...], top: int
) -> list[Bar]:
    found, bottom = [], _y(0, top)
    for series, number in zip(legend, row, strict=True):
        if number:
            height = round(max(_y(0, top) - _y(number, top), _LEAST), 2)
            bottom = round(max(bottom - height, 0), 2)
            found.append(Bar(x, bottom, width, height, series.tone))
    return found


def _ticks_x(labels: Sequence[str], width: int) -> tuple[Tick, ...]:
    step = (width - _LEFT - _RIGHT) / max(1, len(labels))
    every = max(1, math.ceil(_LABELS / step / 5) * 5)
    return tuple(
        Tick(round(_LEFT + step * (index + 0.5), 2), labels[index])
        for index in range(0, len(labels), every)
    )


class Share(Struct, frozen=True):
    """One row of a bar list; ``width`` is a percentage of the longest bar."""

    name: str
    value: float
    text: str
    width: float
    note: str = ""


def shares(rows: Sequence[tuple[str, float, str, str]]) -> tuple[Share, ...]:
    """Bars for (name, value, value as text, note), as they come."""
    most = max((value for _, value, _, _ in rows), default=0) or 1
    return tuple(
        Share(name, value, text, round(100 * max(value, 0) / most, 2), note)
        for name, value, text, note in rows
    )
