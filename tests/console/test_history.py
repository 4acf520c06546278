"""Minutes add up to what the trail says, at the first look and at every later one."""

import time
from collections import Counter
from pathlib import Path

from proxy.console.history import DAY, History, Minute, Picture, quantile, together
from tests.console.material import a_day, append, outcome, write_segment


def outcomes(picture: Picture) -> Counter[str]:
    return together(picture.minutes.values()).outcomes


def test_the_sum_of_all_minutes_is_what_was_written(tmp_path: Path) -> None:
    now = time.time()
    records = sorted(a_day(now - 60, 800), key=lambda record: record[0])
    write_segment(tmp_path, records)
    picture = History(str(tmp_path)).look()
    young = [r for r in records if r[1] != "intent" and r[0] > now - DAY + 60]
    assert outcomes(picture) == Counter(str(body["outcome"]) for _, _, body in young)
    whole = together(picture.minutes.values())
    kinds = Counter(f["kind"] for _, _, body in young for f in body.get("findings", ()))
    assert sum(whole.findings.values()) == kinds.total()
    assert whole.tokens == sum(b.get("usage", {}).get("total_tokens", 0) for _, _, b in young)
    assert picture.problem is None


def test_each_look_adds_what_was_written_since(tmp_path: Path) -> None:
    now = time.time()
    path = write_segment(tmp_path, [outcome("a", now - 9)])
    history = History(str(tmp_path))
    assert outcomes(history.look()) == {"ok": 1}
    append(path, [outcome("b", now - 8), outcome("c", now - 7, outcome="denied", code="x")])
    assert outcomes(history.look()) == {"ok": 2, "denied": 1}
    write_segment(tmp_path, [outcome("d", now - 6)])
    picture = history.look()
    assert outcomes(picture) == {"ok": 3, "denied": 1}
    assert together(picture.minutes.values()).refusals == {"x": 1}
    assert outcomes(history.look()) == {"ok": 3, "denied": 1}


def test_a_line_that_was_half_written_at_the_first_look_counts_once(tmp_path: Path) -> None:
    now = time.time()
    path = write_segment(tmp_path, [outcome("a", now - 9), outcome("b", now - 8)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])
    history = History(str(tmp_path))
    assert outcomes(history.look()) == {"ok": 1}
    path.write_bytes(whole)
    assert outcomes(history.look()) == {"ok": 2}


def test_an_outcome_that_was_written_again_counts_once(tmp_path: Path) -> None:
    now = time.time()
    write_segment(tmp_path, [outcome("a", now - 9)])
    history = History(str(tmp_path))
    history.look()
    write_segment(tmp_path, [outcome("a", now - 8), outcome("b", now - 7)])
    assert outcomes(history.look()) == {"ok": 2}


def test_a_trail_larger_than_the_page_reads_says_from_when_it_is_complete(tmp_path: Path) -> None:
    now = time.time()
    write_segment(
        tmp_path, [outcome(f"c{n}", now - 3000 + n, note="x" * 2000) for n in range(2000)]
    )
    picture = History(str(tmp_path), most_bytes=1 << 20).look()
    assert 0 < outcomes(picture)["ok"] < 2000
    oldest = min(picture.minutes) * 60
    assert oldest <= picture.complete <= oldest + 60


def test_what_cannot_be_read_is_said_and_tried_again(tmp_path: Path) -> None:
    history = History(str(tmp_path / "later"))
    assert "cannot be read: No such file" in (history.look().problem or "")
    (tmp_path / "later").mkdir()
    write_segment(tmp_path / "later", [outcome("a", time.time())])
    picture = history.look()
    assert picture.problem is None
    assert outcomes(picture) == {"ok": 1}
    assert "no [audit]" in (History(None).look().problem or "")


def test_no_number_of_names_fills_the_memory(tmp_path: Path) -> None:
    now = time.time()
    write_segment(tmp_path, [outcome(f"c{n}", now, outcome=f"o{n}") for n in range(300)])
    counted = outcomes(History(str(tmp_path)).look())
    assert len(counted) == 51
    assert counted.total() == 300
    assert counted["other"] == 250


def test_quantiles_are_those_of_what_was_counted() -> None:
    counts = Counter({1.0: 50, 2.0: 45, 9.0: 5})
    assert (quantile(counts, 0.5), quantile(counts, 0.95), quantile(counts, 1)) == (1.0, 2.0, 9.0)
    assert quantile(Counter(), 0.5) is None
    assert together([]) == Minute()


def test_segments_that_vanish_or_shrink_between_two_looks_are_no_error(tmp_path: Path) -> None:
    now = time.time()
    gone = write_segment(tmp_path, [outcome("a", now - 9)])
    cut = write_segment(tmp_path, [outcome("b", now - 8), outcome("c", now - 7)])
    old = write_segment(tmp_path, [outcome("d", now - 2 * DAY), outcome("e", now - 6)])
    history = History(str(tmp_path))
    assert outcomes(history.look()) == {"ok": 4}
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:200])
    append(old, [outcome("f", now)])
    assert outcomes(history.look()) == {"ok": 5}


def test_what_is_older_than_a_day_is_forgotten(tmp_path: Path) -> None:
    now = time.time()
    path = write_segment(tmp_path, [outcome("a", now - 9)])
    history = History(str(tmp_path))
    history.look()
    append(path, [outcome("old", now - 3 * DAY)])
    assert outcomes(history.look()) == {"ok": 1}
