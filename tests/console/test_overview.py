"""The overview shows an hour or a day, no more and no less."""

import time
from pathlib import Path

import pytest

from proxy.console.history import History, Picture
from proxy.console.overview import SPANS, overview
from tests.console.material import a_day, outcome, write_segment

NOW = 1_750_000_000.0


def test_tiles_and_charts_say_the_same(tmp_path: Path) -> None:
    now = time.time()
    write_segment(tmp_path, sorted(a_day(now - 5, 900), key=lambda record: record[0]))
    for span in SPANS:
        shown = overview(History(str(tmp_path)).look(), span, now)
        tiles = {tile.name: tile for tile in shown.tiles}
        assert tiles["Calls"].figure == f"{shown.calls.total:,}"
        assert tiles["Findings"].figure == f"{shown.findings.total:,}"
        assert tiles["Refused"].figure == f"{shown.refusals.total:,}"
        totals = {series.name: series.total for series in shown.calls.series}
        assert totals["denied"] == shown.refusals.total
    assert shown.calls.total > 500


@pytest.mark.parametrize(("span", "columns"), [("hour", 60), ("day", 48)])
def test_what_ended_before_is_not_shown(tmp_path: Path, span: str, columns: int) -> None:
    now, length = time.time(), SPANS[span][1] * 60
    records = [outcome("old", now - length - 1900), outcome("new", now - 1)]
    write_segment(tmp_path, records)
    shown = overview(History(str(tmp_path)).look(), span, now)
    assert shown.calls.total == 1
    assert columns == length // 60 // SPANS[span][2]


def test_with_nothing_to_show_there_is_a_page() -> None:
    shown = overview(Picture({}, [], 0, None), "hour", NOW)
    assert shown.calls.total == 0
    assert [tile.figure for tile in shown.tiles][:3] == ["0", "0", "0"]
    assert shown.tiles[-1].figure == "–"


def test_it_says_when_counts_are_not_complete() -> None:
    assert overview(Picture({}, [], NOW - 60, None), "hour", NOW).incomplete == NOW - 60
    assert overview(Picture({}, [], NOW - 7200, None), "hour", NOW).incomplete is None
