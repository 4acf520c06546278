"""Lists show what the reading side of the trail says, newest first; one call is found with all its records."""

from pathlib import Path

import pytest

from proxy.audit import reading
from proxy.audit.calls import Query
from proxy.console.backwards import Budget
from proxy.console.calls import entries, query, search, summary, together
from tests.console.material import a_day, iso, outcome, write_segment

T = 1_750_000_000.0


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("day")
    write_segment(directory, sorted(a_day(T, 1500), key=lambda record: record[0]))
    return directory


def found(directory: Path, wanted: Query | None = None, most: int = 1000) -> list[str]:
    calls = search(str(directory), wanted or Query(), most, Budget(1 << 40)).calls
    return [call.id for call in calls]


def test_the_list_shows_the_calls_that_the_trail_has(tmp_path: Path) -> None:
    write_segment(tmp_path, sorted(a_day(T, 400), key=lambda record: record[0]))
    told = {(call.id, call.outcome) for call in reading.search(tmp_path)}
    shown = search(str(tmp_path), Query(), 1000, Budget(1 << 40)).calls
    assert {(call.id, call.outcome) for call in shown} == told
    assert len(shown) == 400


@pytest.mark.parametrize(
    "form",
    [
        {"outcome": "denied"},
        {"principal": "ali*"},
        {"team": "research", "model": "gpt-*"},
        {"finding": "iban"},
        {"verdict": "monitor:*"},
        {"plugin": "policy", "verdict": "deny"},
        {"endpoint": "embeddings"},
        {"code": "insufficient_quota"},
        {"since": iso(T - 9000), "until": iso(T - 600)},
        {"outcome": "recovered", "principal": "bob"},
    ],
    ids=str,
)
def test_a_form_finds_what_a_search_on_the_command_line_finds(
    day: Path, form: dict[str, str]
) -> None:
    wanted = query(form)
    told = {call.id for call in reading.search(day, wanted)}
    assert told
    assert set(found(day, wanted)) == told


def test_pages_follow_each_other_without_gap_or_overlap(tmp_path: Path) -> None:
    write_segment(tmp_path, [outcome(f"c{n}", T + n) for n in range(95)])
    pages, before = [], None
    while True:
        page = search(str(tmp_path), Query(), 20, Budget(), before)
        pages += [call.id for call in page.calls]
        if (before := page.older) is None:
            break
    assert pages == [f"c{n}" for n in reversed(range(95))]


def test_where_there_is_too_much_the_next_page_goes_on(tmp_path: Path) -> None:
    write_segment(tmp_path, [outcome(f"c{n}", T + n, note="x" * 3000) for n in range(900)])
    seen, before, cuts = [], None, 0
    while True:
        page = search(str(tmp_path), Query(), 1000, Budget(1 << 20), before)
        seen += [call.id for call in page.calls]
        cuts += page.cut
        if (before := page.older) is None:
            break
    assert seen == [f"c{n}" for n in reversed(range(900))]
    assert cuts > 1


def test_what_was_written_twice_is_shown_once(tmp_path: Path) -> None:
    write_segment(tmp_path, [outcome("a", T)])
    write_segment(tmp_path, [outcome("a", T + 1), outcome("b", T + 2)])
    assert found(tmp_path) == ["b", "a"]


def test_a_recovered_call_is_shown_with_what_its_intent_said(tmp_path: Path) -> None:
    write_segment(tmp_path, [(T, "intent", {"id": "a", "time": iso(T), "principal": "bob"})])
    write_segment(tmp_path, [(T + 9, "recovered", {"id": "a", "outcome": "recovered"})])
    (call,) = search(str(tmp_path), Query(), 9, Budget()).calls
    assert (call.outcome, call.principal) == ("recovered", "bob")


def test_a_recovered_call_whose_intent_is_gone_is_shown_all_the_same(tmp_path: Path) -> None:
    write_segment(tmp_path, [(T, "recovered", {"id": "a", "outcome": "recovered"})])
    assert found(tmp_path) == ["a"]


def test_all_records_of_a_call_are_found_and_none_of_another(tmp_path: Path) -> None:
    intents = [(T + n, "intent", {"id": "a", "time": iso(T), "attempt": n}) for n in (1, 2)]
    others = [outcome(f"o{n}", T + 3 + n / 100) for n in range(300)]
    write_segment(tmp_path, [*intents, *others, outcome("a", T + 7, time=iso(T))])
    lines, cut = entries(str(tmp_path), "a")
    assert [entry.kind for entry in lines] == ["intent", "intent", "outcome"]
    assert not cut
    call = together(lines)
    assert call is not None
    assert (call.outcome, call.fields["attempt"]) == ("ok", 2)
    assert entries(str(tmp_path), "nobody") == ([], False)
    assert together([]) is None


def test_a_call_in_flight_has_an_intent_only(tmp_path: Path) -> None:
    write_segment(tmp_path, [(T, "intent", {"id": "a"})])
    call = together(entries(str(tmp_path), "a")[0])
    assert call is not None
    assert call.outcome == "open"


def test_a_record_in_which_nothing_is_what_it_should_be_is_shown(tmp_path: Path) -> None:
    body = {
        "id": ["x"], "time": 7, "outcome": {"a": 1}, "status": None, "seconds": "soon",
        "usage": 3, "findings": {"kind": 1}, "verdicts": ["deny", 4], "metadata": [1],
        "principal": 12, "model": {"deep": ["er"]}, "stream": "yes", "proxy_seconds": 1e300,
    }  # fmt: skip
    write_segment(tmp_path, [(T, "outcome", body), (T + 1, "outcome", {})])
    assert len(search(str(tmp_path), Query(), 9, Budget()).calls) == 2
    (first, *_), _ = entries(str(tmp_path), ["x"])  # type: ignore[arg-type]
    call = together([first])
    assert call is not None
    line = summary(T, call)
    assert (line.outcome, line.seconds, line.proxy_seconds, line.tokens) == ("?", None, None, 0)


def test_a_time_that_is_none_is_answered_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="'yesterday' is no time: write for example"):
        query({"since": "yesterday"})
    with pytest.raises(ValueError, match="is no time"):
        query({"until": "9999-12-31"})
    assert query({"since": " 2026-01-31 "}).since is not None
    assert query({"model": "*", "team": "  "}) == Query()
