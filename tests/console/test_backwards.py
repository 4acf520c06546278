"""Read backwards, the trail says what it says forwards."""

import random
from pathlib import Path

import pytest

from proxy.audit.records import read_directory
from proxy.console import backwards
from proxy.console.backwards import Budget, last_line, newest_first, sizes
from tests.console.material import Written, append, outcome, write_segment

T = 1_750_000_000.0
BOTH = ("intent", "outcome")


def spread(directory: Path, count: int, segments: int, filler: int = 0) -> None:
    """Calls in several segments at the same time, as of several processes."""
    chance = random.Random(3)
    parts: list[list[Written]] = [[] for _ in range(segments)]
    for number in range(count):
        text = "x" * chance.randrange(filler + 1)
        parts[chance.randrange(segments)].append(outcome(f"c{number}", T + number, note=text))
    for part in parts:
        write_segment(directory, part)


def ids(directory: Path, **options: float) -> list[str]:
    found = newest_first(sizes(directory), BOTH, Budget(1 << 40), **options)
    return [entry.body["id"] for _, entry in found]


@pytest.mark.parametrize("filler", [0, 3000])
def test_every_record_comes_once_and_the_newest_first(tmp_path: Path, filler: int) -> None:
    spread(tmp_path, 900, 4, filler)
    assert ids(tmp_path) == [f"c{n}" for n in reversed(range(900))]
    forwards = sorted(entry.body["id"] for entry in read_directory(tmp_path, kinds=BOTH))
    assert sorted(ids(tmp_path)) == forwards


def test_it_can_begin_anywhere(tmp_path: Path) -> None:
    spread(tmp_path, 900, 2, 3000)
    assert ids(tmp_path, before=T + 450) == [f"c{n}" for n in reversed(range(451))]
    assert ids(tmp_path, before=T - 1) == []


def test_to_begin_anywhere_costs_no_more_than_to_begin_at_the_end(tmp_path: Path) -> None:
    spread(tmp_path, 3000, 1, 3000)
    budget = Budget(4 * backwards._BLOCK)
    found = newest_first(sizes(tmp_path), BOTH, budget, before=T + 20)
    assert next(found)[1].body["id"] == "c20"
    assert not budget.spent


def test_what_is_half_written_or_broken_is_passed_over(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [outcome("a", T)])
    with path.open("ab") as file:
        file.write(b'\n{"seq":1,"time":"nonsense","mono":1.0,"kind":"outcome","body":{},"mac":"')
        file.write(b"0" * 64 + b'"}\nnot json')
    append(path, [outcome("b", T + 1)])
    with path.open("ab") as file:
        file.write(b'\n{"seq":9,"time":"2026')
    assert ids(tmp_path) == ["b", "a"]


def test_a_record_longer_than_a_block_is_whole(tmp_path: Path) -> None:
    long = outcome("long", T + 1, note="x" * (3 * backwards._BLOCK))
    write_segment(tmp_path, [outcome("a", T), long, outcome("b", T + 2)])
    assert ids(tmp_path) == ["b", "long", "a"]


def test_no_more_is_read_than_the_budget_allows(tmp_path: Path) -> None:
    spread(tmp_path, 2000, 3, 2000)
    budget = Budget(2 * backwards._BLOCK)
    found = list(newest_first(sizes(tmp_path), BOTH, budget))
    assert budget.spent
    assert 0 < len(found) < 2000


def test_a_segment_that_is_pruned_meanwhile_is_no_error(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [outcome("a", T)])
    ends = sizes(tmp_path)
    path.unlink()
    assert list(newest_first(ends, BOTH, Budget())) == []
    assert last_line(path, 100) == 0


def test_the_last_line_is_found_however_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"\nfirst\n" + b"x" * (2 * backwards._BLOCK))
    assert last_line(path, path.stat().st_size) == 6
    assert last_line(path, 6) == 0
