"""Whoever dies leaves nothing open: what it acknowledged is there, and what it left is answered for once."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.audit.journal import Journal
from proxy.audit.recovery import remains
from tests.audit.material import Place, fill, kinds

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("sealed", "kills"), [(True, 30), (False, 10)])
def test_kills_lose_nothing_that_was_acknowledged(
    tmp_path: Path, sealed: bool, kills: int, record_property: Callable[[str, object], None]
) -> None:
    place = Place(tmp_path, sealed=sealed)
    changes = {} if sealed else {"seal_to": None}
    table = place.table(checkpoint_seconds=0.1, segment_bytes=20_000, **changes)
    fields = {name: getattr(table, name) for name in table.__struct_fields__ if name != "export"}
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"table": fields, "workers": 3, "kills": kills, "seed": 7}))
    done = subprocess.run(
        [sys.executable, "-m", "tests.audit.mortal", str(plan)],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    acknowledged = json.loads(done.stdout)
    with place.led():
        pass
    intents = Counter(entry.body["id"] for entry in place.entries("intent"))
    answers = Counter(
        entry.body["id"] for kind in ("outcome", "recovered") for entry in place.entries(kind)
    )
    assert set(acknowledged) <= set(intents)
    assert set(intents.values()) == {1}
    assert answers == intents
    report = place.verify()
    assert report.problems == ()
    assert report.unanswered == 0
    assert report.recovered >= kills
    figures = f"{len(acknowledged)} acknowledged, 0 lost, {report.recovered} recovered"
    record_property("figure", f"{kills} kills: {figures}")


def abandoned(place: Place, calls: int = 3) -> None:
    """A segment of a process that died with calls open."""
    journal = place.journal()
    fill(journal, 2)
    for number in range(calls):
        journal.record("intent", {"id": f"open-{number}"}, f"open-{number}")
    journal.forget()  # lets go of the file as a death does: the lock goes, nothing is written


def recovered(place: Place) -> list[str]:
    return sorted(entry.body["id"] for entry in place.entries("recovered"))


def test_calls_without_outcome_are_answered_for(place: Place) -> None:
    abandoned(place)
    with place.led() as (_, overseer):
        assert overseer.recovered == 3
        assert overseer.failures == 0
    assert recovered(place) == ["open-0", "open-1", "open-2"]
    (anchor,) = place.entries("closed_for")
    assert anchor.body["seq"] == 7
    report = place.verify()
    assert (report.problems, report.unanswered, report.recovered) == ((), 0, 3)


def test_the_dead_are_answered_for_once(place: Place) -> None:
    abandoned(place)
    for _ in range(3):
        with place.led() as (_, overseer):
            overseer.tick()
    assert len(recovered(place)) == 3


def test_many_that_start_at_once_recover_once(place: Place) -> None:
    abandoned(place)
    journals = [place.journal() for _ in range(6)]
    overseers = [place.overseer(journal) for journal in journals]
    threads = [threading.Thread(target=overseer.tick) for overseer in overseers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for journal, overseer in zip(journals, overseers, strict=True):
        journal.close()
        overseer.last()
    assert len(recovered(place)) == 3
    assert place.verify().problems == ()


def test_recovery_that_was_killed_goes_on_where_it_ended(place: Place) -> None:
    abandoned(place)
    dead = place.paths()[0].stem
    half = place.journal()
    half.record("recovered", {"id": "open-1", "found_in": dead, "outcome": "recovered"})
    half.forget()
    with place.led() as (_, overseer):
        assert overseer.recovered == 2
    assert recovered(place) == ["open-0", "open-1", "open-2"]


def test_the_living_are_left_alone(place: Place) -> None:
    living = place.journal()
    living.record("intent", {"id": "mine"}, "mine")
    with place.led() as (_, overseer):
        overseer.tick()
        assert overseer.recovered == 0
    living.note("outcome", {"id": "mine"}, "mine")
    living.close()
    assert recovered(place) == []


def test_calls_that_were_carried_into_the_next_segment_are_recovered_once(place: Place) -> None:
    journal = place.journal(segment_bytes=5000)
    journal.record("intent", {"id": "long"}, "long")
    fill(journal, 30)
    journal.forget()
    assert len(place.paths()) > 2
    with place.led():
        pass
    (entry,) = place.entries("recovered")
    assert entry.body["id"] == "long"
    assert entry.body["intent"]["segment"] == place.paths()[0].stem


def test_a_torn_last_record_is_told(place: Place) -> None:
    abandoned(place)
    path = place.paths()[0]
    with path.open("ab") as file:
        file.write(b'\n{"seq":8,')
    assert remains(path).cut
    with place.led():
        pass
    (anchor,) = place.entries("closed_for")
    assert anchor.body["cut"]
    assert place.verify().problems == ()


def test_a_dead_segment_that_is_changed_after_recovery_is_convicted(place: Place) -> None:
    abandoned(place)
    with place.led():
        pass
    path = place.paths()[0]
    path.write_bytes(path.read_bytes().rpartition(b"\n")[0])
    (place.directory / "checkpoints.jsonl").unlink()
    found = [(problem.what, problem.segment) for problem in place.verify().problems]
    assert ("truncated", path.stem) in found


def test_only_one_leads_and_another_follows_when_it_ends(place: Place) -> None:
    first, second = place.journal(), place.journal()
    leader, other = place.overseer(first), place.overseer(second)
    leader.tick()
    fill(second, 1)
    other.tick()
    assert len(place.entries("checkpointed")) == 1
    leader.release()
    other.tick()
    assert len(place.entries("checkpointed")) == 2
    close(first, second)
    other.release()


def close(*journals: Journal) -> None:
    for journal in journals:
        journal.close()


def test_a_checkpoint_is_made_only_when_something_happened(place: Place) -> None:
    with place.led() as (journal, overseer):
        for _ in range(3):
            overseer.tick()
        assert len(place.entries("checkpointed")) == 1
        fill(journal, 1)
        overseer.tick()
        assert len(place.entries("checkpointed")) == 2


def test_a_leader_notices_that_a_segment_was_changed(place: Place) -> None:
    with place.led() as (journal, overseer):
        fill(journal, 3)
        overseer.tick()
        path = place.paths()[0]
        os.truncate(path, 100)
        overseer.tick()
        assert overseer.failures == 1
    with place.led() as (_, overseer):
        pass


def test_who_leads_next_notices_that_an_open_segment_was_changed(place: Place) -> None:
    living = place.journal()
    fill(living, 3)
    with place.led():
        pass
    path = place.paths()[0]
    path.write_bytes(path.read_bytes().replace(b'"ok"', b'"no"'))
    with place.led() as (_, overseer):
        assert overseer.failures == 1
    living.close()


def test_recovery_that_cannot_write_is_tried_again(place: Place) -> None:
    abandoned(place)
    closed = place.journal()
    closed.close()
    overseer = place.overseer(closed)
    overseer.tick()
    assert (overseer.failures, overseer.recovered) == (1, 0)
    overseer.release()
    with place.led() as (_, other):
        assert other.recovered == 3
    assert place.verify().problems == ()


def test_a_directory_that_goes_away_ends_no_thread(place: Place) -> None:
    with place.led() as (_, overseer):
        away = place.directory.with_name("away")
        place.directory.rename(away)
        overseer.tick()
        assert overseer.failures > 0
        away.rename(place.directory)
        overseer.tick()
    assert place.verify().problems == ()


def test_a_closed_segment_ends_with_saying_so(place: Place) -> None:
    with place.led() as (journal, _):
        fill(journal, 1)
    assert kinds(place.paths()[0])[-1] == "closed"


def test_remains_of_segments_that_were_never_finished_are_cleared(place: Place) -> None:
    stillborn = place.directory / ".new-20200101T000000.000000Z_host_1_00000000.jsonl"
    stillborn.write_bytes(b"")
    os.utime(stillborn, (0, 0))
    with place.led():
        pass
    assert not stillborn.exists()
