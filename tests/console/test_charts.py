"""A chart shows every number there is, and its table says the same."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from proxy.console.charts import NARROW, WIDE, Chart, shares, stacked

TONES = {"ok": "ok", "denied": "denied"}
COUNTS = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 10**6), max_size=10)


def chart(*columns: dict[str, int], tones: dict[str, str] | None = None, width: int = 600) -> Chart:
    buckets = [(f"{n:02d}:00", counts) for n, counts in enumerate(columns)]
    return stacked("Calls", "calls", buckets, tones, width)


@given(st.lists(COUNTS, min_size=1, max_size=70))
def test_bars_stay_inside_and_rows_add_up(columns: list[dict[str, int]]) -> None:
    found = chart(*columns)
    assert found.total == sum(sum(counts.values()) for counts in columns)
    assert sum(sum(row) for _, row in found.rows) == found.total
    assert [s.total for s in found.series] == [
        sum(row[i] for _, row in found.rows) for i in range(len(found.series))
    ]
    for column in found.columns:
        for bar in column.bars:
            assert found.left <= bar.x
            assert bar.x + bar.width <= found.right + 0.1
            assert 0 <= bar.y <= bar.y + bar.height <= found.base + 20
    assert len(found.columns) == len(found.rows) == sum(any(c.values()) for c in columns)


@given(st.integers(0, 10**9))
def test_the_axis_ends_at_a_round_number_above_the_highest_column(highest: int) -> None:
    ticks = chart({"a": highest}).ticks_y
    values = [int(tick.text.replace(",", "")) for tick in ticks]
    assert values[-1] >= highest
    assert values[-1] <= max(4, 2 * highest)
    assert [b - a for a, b in itertools.pairwise(values)] == [values[1]] * 4


def test_bars_stand_on_each_other_without_gap() -> None:
    (column,) = chart({"ok": 3, "denied": 1}, tones=TONES).columns
    below, above = column.bars
    assert (below.tone, above.tone) == ("ok", "denied")
    assert above.y + above.height == below.y
    assert column.title == "00:00: 4 calls (ok 3, denied 1)"


def test_one_refusal_among_thousands_of_calls_is_seen() -> None:
    (column,) = chart({"ok": 100_000, "denied": 1}, tones=TONES).columns
    assert column.bars[1].height >= 2


def test_more_names_than_colours_become_one() -> None:
    found = chart({letter: 100 - n for n, letter in enumerate("abcdefghij")})
    assert [s.name for s in found.series] == ["a", "b", "c", "d", "e", "all others"]
    assert found.series[-1].total == sum(range(91, 96))
    assert len({s.tone for s in found.series}) == 6


def test_a_name_without_a_colour_of_its_own_has_one_all_the_same() -> None:
    found = chart({"ok": 1, "strange": 2}, tones=TONES)
    assert [(s.name, s.tone) for s in found.series] == [("ok", "ok"), ("strange", "other")]


def test_labels_do_not_run_into_each_other() -> None:
    for width in (NARROW, 600, WIDE):
        ticks = chart(*[{"ok": 1}] * 60, width=width).ticks_x
        gaps = [b.at - a.at for a, b in itertools.pairwise(ticks)]
        assert len(ticks) >= 2
        assert min(gaps) > 60


def test_there_is_one_for_a_narrow_screen_with_the_same_table() -> None:
    found = chart({"ok": 1}, width=WIDE)
    assert found.narrow is not None
    assert found.narrow.width == NARROW
    assert found.narrow.rows == found.rows
    assert found.narrow.narrow is None


def test_the_longest_bar_of_a_list_is_whole_and_none_is_negative() -> None:
    rows = [("a", 4.0, "4", ""), ("b", 1.0, "1", ""), ("c", -3.0, "-3", "")]
    assert [share.width for share in shares(rows)] == [100, 25, 0]
    assert [share.width for share in shares([("a", 0, "0", "")])] == [0]
    assert shares([]) == ()
