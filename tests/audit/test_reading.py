"""Calls of many segments: joined, in order, exactly once, with little in memory."""

import itertools
import os
import random
import tracemalloc
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.audit.calls import Call, Query
from proxy.audit.journal import Journal
from proxy.audit.reading import Tail, find, follow, latest, search
from tests.audit.material import Place, fill


def begin(journal: Journal, call: str, **fields: object) -> None:
    journal.record("intent", {"id": call, "model": "m", **fields}, call)


def end(journal: Journal, call: str, outcome: str = "ok") -> None:
    journal.note("outcome", {"id": call, "outcome": outcome}, call)


def ids(calls: Iterator[Call]) -> list[str]:
    return [call.id for call in calls]


def test_calls_of_several_processes_come_in_the_order_in_which_they_ended(place: Place) -> None:
    journals = [place.journal() for _ in range(3)]
    order = [f"call-{number}" for number in range(60)]
    random.Random(5).shuffle(order)
    for number, call in enumerate(order):
        begin(journals[number % 3], call)
    ends = sorted(order)
    for call in ends:
        end(journals[order.index(call) % 3], call)
    for journal in journals:
        journal.close()
    found = list(search(place.directory))
    assert [call.id for call in found] == ends
    assert {call.outcome for call in found} == {"ok"}
    assert all(call.intent and call.ended for call in found)


def test_a_call_that_ends_in_the_next_segment_is_one_call(place: Place) -> None:
    journal = place.journal(segment_bytes=2000)
    begin(journal, "long")
    fill(journal, 30)
    end(journal, "long")
    journal.close()
    assert len(place.paths()) > 2
    found = {call.id: call for call in search(place.directory)}
    assert len(found) == 31
    long = found["long"]
    assert long.intent
    assert long.ended
    assert long.intent.segment != long.ended.segment
    assert find(place.directory, "long") == long


def test_a_call_that_was_sent_to_two_upstreams_is_one_call(place: Place) -> None:
    journal = place.journal()
    begin(journal, "tried", upstream="first")
    begin(journal, "tried", upstream="second")
    assert [call.text("upstream") for call in search(place.directory)] == ["second"]
    end(journal, "tried")
    assert [call.outcome for call in search(place.directory)] == ["ok"]
    assert ids(Tail(place.directory).read()) == ["tried"]
    journal.close()


def test_open_calls_come_last_and_refused_calls_need_no_intent(place: Place) -> None:
    journal = place.journal()
    begin(journal, "open")
    end(journal, "refused", "denied")
    fill(journal, 1)
    assert [(call.id, call.outcome) for call in search(place.directory)] == [
        ("refused", "denied"),
        ("call-0", "ok"),
        ("open", "open"),
    ]
    refused = find(place.directory, "refused")
    assert refused is not None
    assert refused.intent is None
    journal.close()


def test_calls_of_a_killed_process_are_recovered_ones(place: Place) -> None:
    if not (child := os.fork()):
        journal = place.journal()
        begin(journal, "lost", principal="alice")
        os._exit(0)
    os.waitpid(child, 0)
    with place.led():
        pass
    (call,) = search(place.directory, Query(outcome="recovered"))
    assert (call.id, call.principal) == ("lost", "alice")
    assert call == find(place.directory, "lost")
    # Also when the segment with its intent is gone.
    place.paths()[0].unlink()
    (call,) = search(place.directory)
    assert (call.outcome, call.principal) == ("recovered", None)


def test_a_clock_that_went_back_does_not_part_an_intent_from_its_recovery(place: Place) -> None:
    journal = place.journal()
    journal.record("recovered", {"id": "lost", "outcome": "recovered"})
    begin(journal, "lost", principal="alice")
    journal.close()
    (call,) = search(place.directory)
    assert (call.outcome, call.principal) == ("recovered", "alice")
    assert find(place.directory, "lost") == call


def test_an_outcome_that_was_written_again_is_told_once(place: Place) -> None:
    given_up, journal = place.journal(), place.journal()
    for call in ("arrived", "lost"):
        begin(given_up, call)
    end(given_up, "arrived")
    given_up.sync()
    name = place.paths()[0].stem
    journal.record("abandoned", {"segment": name, "refused": [], "again": ["arrived", "lost"]})
    for call in ("arrived", "lost"):
        end(journal, call)
    journal.sync()
    assert len(place.entries("outcome")) == 3
    assert ids(search(place.directory)) == ["arrived", "lost"]
    assert find(place.directory, "arrived") == next(search(place.directory))
    for each in (given_up, journal):
        each.close()


def test_a_record_that_names_a_file_elsewhere_is_not_believed(place: Place) -> None:
    journal = place.journal()
    journal.record("abandoned", {"segment": "../../etc/passwd", "again": ["call-0"]})
    fill(journal, 1)
    journal.close()
    assert ids(search(place.directory)) == ["call-0"]


def test_only_the_time_that_is_asked_for_is_told(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3, "before")
    begin(journal, "across")
    since = datetime.now(UTC)
    end(journal, "across")
    fill(journal, 3, "between")
    until = datetime.now(UTC)
    fill(journal, 3, "after")
    journal.close()
    found = ids(search(place.directory, Query(since=since, until=until)))
    assert found == ["between-0", "between-1", "between-2"]
    assert ids(search(place.directory, Query(since=until))) == ["after-0", "after-1", "after-2"]
    assert ids(search(place.directory, Query(since=until + timedelta(days=1)))) == []
    assert "across" in ids(search(place.directory, Query(until=since)))


def test_what_began_long_before_is_not_read_on_for(place: Place) -> None:
    journal = place.journal()
    fill(journal, 2)
    journal.close()
    read: list[int] = []
    long_ago = datetime.now(UTC) - timedelta(days=3)
    assert ids(search(place.directory, Query(until=long_ago), read.append)) == []
    assert read == []
    assert len(ids(search(place.directory, Query(), read.append))) == 2
    assert sum(read) == sum(path.stat().st_size for path in place.paths())


def test_the_latest_calls_are_the_last_to_end(place: Place) -> None:
    journal = place.journal()
    fill(journal, 20)
    assert ids(iter(latest(place.directory, 3))) == ["call-17", "call-18", "call-19"]
    assert len(latest(place.directory, 50)) == 20
    recent = Query(since=datetime.now(UTC) - timedelta(minutes=1), model="m")
    assert ids(iter(latest(place.directory, 1, recent))) == ["call-19"]
    journal.close()


def test_nothing_is_found_where_nothing_is(place: Place) -> None:
    assert find(place.directory, "none") is None
    assert latest(place.directory, 3) == []
    with pytest.raises(FileNotFoundError):
        list(search(place.directory / "nowhere"))


def test_an_id_that_only_stands_inside_another_record_is_not_found(place: Place) -> None:
    journal = place.journal()
    begin(journal, "call-1", principal="call-2")
    journal.close()
    assert find(place.directory, "call-2") is None
    assert find(place.directory, "call-") is None


def test_lines_that_are_no_records_are_passed_over(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3)
    journal.close()
    (path,) = place.paths()
    lines = path.read_bytes().split(b"\n")
    lines[3] = b'{"id":"\x1b[2J'
    path.write_bytes(b"\n".join(lines) + b'\n{"seq":99,')
    found = [(call.id, call.outcome) for call in search(place.directory)]
    assert found == [("call-1", "ok"), ("call-2", "ok"), ("call-0", "open")]


# -- following ------------------------------------------------------------------------------------


def test_a_tail_tells_each_call_once_when_it_ends_also_in_new_segments(place: Place) -> None:
    first = place.journal(segment_bytes=2000)
    begin(first, "slow")
    tail = Tail(place.directory)
    assert ids(tail.read()) == []
    assert ids(iter(tail.open)) == ["slow"]
    fill(first, 5, "a")
    second = place.journal()
    fill(second, 2, "b")
    assert ids(tail.read()) == [f"a-{n}" for n in range(5)] + ["b-0", "b-1"]
    end(first, "slow")
    assert ids(tail.read()) == ["slow"]
    assert tail.open == []
    fill(first, 30, "c")
    place.paths()[0].unlink()  # pruned
    assert ids(tail.read()) == [f"c-{n}" for n in range(30)]
    assert ids(tail.read()) == []
    for journal in (first, second):
        journal.close()


def test_a_line_that_is_not_whole_yet_is_told_when_it_is(place: Place) -> None:
    journal = place.journal()
    fill(journal, 2)
    journal.close()
    (path,) = place.paths()
    whole = path.read_bytes()
    at = whole.index(b'"outcome"', whole.index(b"call-1"))
    path.write_bytes(whole[:at])
    tail = Tail(place.directory)
    assert ids(tail.read()) == ["call-0"]
    assert ids(iter(tail.open)) == ["call-1"]
    path.write_bytes(whole)
    assert ids(tail.read()) == ["call-1"]


def test_following_goes_on_for_ever(place: Place) -> None:
    journal = place.journal()
    numbers = itertools.count()
    calls = follow(place.directory, wait=lambda: fill(journal, 1, f"call-{next(numbers)}"))
    assert [call.id for call in itertools.islice(calls, 3)] == [f"call-{n}-0" for n in range(3)]
    journal.close()


# -- cost -----------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_trail(place: Place) -> None:
    def peak() -> int:
        tracemalloc.start()
        deque(search(place.directory), maxlen=0)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    journal = place.journal(segment_bytes=50_000)
    note = "x" * 500
    for number in range(4000):
        journal.note("intent", {"id": str(number), "note": note}, str(number))
        end(journal, str(number))
        if number == 400:
            journal.sync()
            small = peak()
    journal.close()
    size = sum(path.stat().st_size for path in place.paths())
    assert size > 3_000_000
    assert peak() < small + 300_000


def test_as_many_files_are_open_as_processes_wrote_at_a_time(place: Place) -> None:
    journal = place.journal(segment_bytes=4096)
    for number in range(400):
        begin(journal, str(number))
        end(journal, str(number))
    journal.close()
    assert len(place.paths()) > 20
    opened = 0
    for _ in search(place.directory):
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        opened = max(opened, sum(place.directory in link.readlink().parents for link in links))
    assert 0 < opened <= 3
