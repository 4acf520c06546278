"""A window never lets more than the limit through in any span of time, and gives everything back in the end."""

import math
from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit.window import CELLS, Demand, Window

#: Steps of time in 600ths of the span, and amounts.
ARRIVALS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 7)), max_size=60)
START = 1_700_000_000.0


def play(arrivals: list[tuple[int, int]], limit: int, span: float) -> list[tuple[float, int]]:
    """What was let through, and when."""
    cells: array[int] = array("q")
    now, passed = START, []
    for step, amount in arrivals:
        now += step * span / 600
        window = Window(cells, span, now)
        if window.taken(Demand(b"", limit, amount, span)).wait == 0:
            passed.append((now, amount))
        cells = window.cells
        assert len(cells) <= 2 * (CELLS + 1)
    return passed


@given(ARRIVALS, st.integers(1, 30), st.sampled_from([1.0, 60.0, 86400.0]))
def test_no_span_of_time_holds_more_than_the_limit(
    arrivals: list[tuple[int, int]], limit: int, span: float
) -> None:
    passed = play(arrivals, limit, span)
    for begin, _ in passed:
        within = sum(amount for at, amount in passed if begin <= at < begin + span * 0.999999)
        assert within <= limit


@given(ARRIVALS, st.integers(7, 30), st.sampled_from([1.0, 60.0, 86400.0]))
def test_what_is_refused_fits_when_the_answer_says_so_and_not_a_cell_earlier(
    arrivals: list[tuple[int, int]], limit: int, span: float
) -> None:
    cells: array[int] = array("q")
    now = START
    for step, amount in arrivals:
        now += step * span / 600
        window = Window(array("q", cells), span, now)
        wait = window.wait(limit, amount)
        if wait:
            later = Window(array("q", cells), span, now + wait + span / 6000)
            assert later.wait(limit, amount) == 0
            sooner = Window(array("q", cells), span, now + max(0.0, wait - span / CELLS))
            assert sooner.wait(limit, amount) > 0
        window.taken(Demand(b"", limit, amount, span))
        cells = window.cells
        assert Window(array("q", cells), span, now + window.reset() + span / 6000).used == 0


def test_all_comes_back_when_the_span_and_a_cell_are_over() -> None:
    window = Window(array("q"), 60.0, START)
    assert window.taken(Demand(b"", 5, 5, 60.0)).wait == 0
    assert Window(window.cells, 60.0, START + 59.9).used == 5
    assert Window(window.cells, 60.0, START + 61.0).used == 0


def test_what_is_larger_than_the_limit_never_fits() -> None:
    window = Window(array("q"), 60.0, START)
    assert window.taken(Demand(b"", 5, 6, 60.0)).wait == math.inf
    assert window.used == 0


def test_what_was_guessed_too_high_is_given_back_where_it_was_put() -> None:
    window = Window(array("q"), 60.0, START)
    taken = window.taken(Demand(b"", 100, 80, 60.0))
    later = Window(window.cells, 60.0, START + 30)
    later.add(5)
    later.correct(taken.cell, -70)
    assert later.used == 15
    assert Window(later.cells, 60.0, START + 61).used == 5


def test_what_was_guessed_too_low_counts_from_now_on() -> None:
    window = Window(array("q"), 60.0, START)
    taken = window.taken(Demand(b"", 100, 10, 60.0))
    later = Window(window.cells, 60.0, START + 30)
    later.correct(taken.cell, 90)
    assert later.used == 100
    assert Window(later.cells, 60.0, START + 62).used == 90


def test_a_correction_after_the_span_changes_nothing_and_nothing_falls_below_zero() -> None:
    window = Window(array("q"), 60.0, START)
    taken = window.taken(Demand(b"", 100, 10, 60.0))
    window.correct(taken.cell, -50)
    assert window.used == 0
    later = Window(window.cells, 60.0, START + 120)
    later.add(7)
    later.correct(taken.cell, -10)
    assert later.used == 7


def test_after_a_clock_was_set_back_what_was_used_counts_as_used_now() -> None:
    window = Window(array("q"), 60.0, START)
    for step in range(5):
        window = Window(window.cells, 60.0, START + step)
        window.add(1)
    back = Window(window.cells, 60.0, START - 3600)
    assert back.used == 5
    assert back.reset() <= 61
    assert Window(back.cells, 60.0, START - 3600 + 62).used == 0


def test_cells_stand_in_order() -> None:
    cells: array[int] = array("q")
    for step in (0, 1, 1, 50, 300, 10):
        window = Window(cells, 60.0, START + step)
        window.add(1)
        cells = window.cells
    assert all(a < b for a, b in pairwise(cells[::2]))
