"""The trail as the proxy uses it: one for all threads and forks, loud when it cannot record."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import ConfigError
from proxy.audit import AuditFault, ExportEntry, Trail, keys
from proxy.audit.records import CHECKPOINTS
from proxy.audit.segment import is_owned
from tests.audit.material import Place, kinds


def eventually(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def ids(place: Place, kind: str) -> list[str]:
    return [entry.body["id"] for entry in place.entries(kind)]


def test_an_intent_is_there_when_it_returns_and_an_outcome_soon_after(place: Place) -> None:
    trail = place.trail()
    trail.intent({"id": "a", "model": "m"})
    assert ids(place, "intent") == ["a"]
    trail.outcome({"id": "a", "outcome": "ok"})
    assert ids(place, "outcome") == ["a"]
    eventually(lambda: trail.lag() == 0.0)
    assert trail.obstacle() is None
    trail.close()
    assert kinds(place.paths()[0])[-1] == "closed"
    assert place.verify().problems == ()


def test_the_end_is_signed(place: Place) -> None:
    trail = place.trail()
    trail.start()
    eventually((place.directory / CHECKPOINTS).exists)
    trail.intent({"id": "a"})
    trail.outcome({"id": "a"})
    trail.close()
    path = place.paths()[0]
    path.write_bytes(path.read_bytes().replace(b'"id":"a"', b'"id":"b"'))
    assert place.verify(private=False).problems != ()


def test_a_child_has_a_segment_of_its_own_and_lets_go_of_its_parents(place: Place) -> None:
    trail = place.trail()
    trail.intent({"id": "parent"})
    (own,) = place.paths()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writing)
            trail.intent({"id": "child"})
            trail.outcome({"id": "child"})
            trail.close()
            os.read(reading, 1)  # lives on until the parent let go of its segment
        finally:
            os._exit(0)
    eventually(lambda: len(place.paths()) == 2)
    eventually(lambda: ids(place, "outcome") == ["child"])
    trail.outcome({"id": "parent"})
    trail.close()
    assert not is_owned(own)
    os.write(writing, b"x")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert sorted(ids(place, "intent")) == ["child", "parent"]
    report = place.verify()
    assert (report.problems, report.unanswered) == ((), 0)


def test_readiness_knows_when_nothing_can_be_recorded_and_when_it_can_again(place: Place) -> None:
    trail = place.trail()
    trail.start()
    away = place.directory.with_name("away")
    place.directory.rename(away)
    eventually(lambda: trail.obstacle() is not None)
    with pytest.raises(AuditFault, match="takes no records"):
        trail.intent({"id": "a"})
    away.rename(place.directory)
    eventually(lambda: trail.obstacle() is None)
    trail.intent({"id": "b"})
    assert trail.vitals()["faults"] >= 1
    trail.close()


def test_many_threads_begin_one_trail(place: Place) -> None:
    trail = place.trail()
    threads = [
        threading.Thread(target=trail.intent, args=({"id": str(number)},)) for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.close()
    assert len(place.paths()) == 1
    assert len(ids(place, "intent")) == 16


def test_nothing_is_recorded_after_the_end(place: Place) -> None:
    trail = place.trail()
    trail.close()
    trail.start()
    with pytest.raises(AuditFault, match="closed"):
        trail.intent({"id": "a"})
    assert trail.lag() == 0.0
    assert trail.obstacle() is None
    assert trail.vitals() == {"lag_seconds": 0.0}


def test_a_trail_that_starts_answers_for_the_dead(place: Place) -> None:
    journal = place.journal()
    journal.record("intent", {"id": "left"}, "left")
    journal.forget()
    trail = place.trail()
    trail.start()
    eventually(lambda: ids(place, "recovered") == ["left"])
    eventually(lambda: trail.vitals()["recovered"] == 1)
    trail.close()


def test_missing_keys_are_told_at_start(place: Place) -> None:
    assert place.trail().notices == ()
    bare = place.trail(seal_to=None, sign_with=None)
    assert len(bare.notices) == 2
    assert all("outgate audit init" in notice for notice in bare.notices)
    assert bare.required
    assert not place.trail(mode="best_effort").required


def test_a_directory_is_made_for_this_user_alone(place: Place) -> None:
    directory = place.root / "new" / "audit"
    trail = place.trail(directory=str(directory))
    assert directory.stat().st_mode & 0o777 == 0o700
    trail.close()


def test_what_cannot_be_used_stops_the_start(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"audit.directory = .*File exists"):
        place.trail(directory=str(file))
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod go-w"):
        place.trail(directory=str(shared))
    with pytest.raises(ConfigError, match=r"audit.seal_to = .*X25519 key is needed"):
        place.trail(seal_to=str(place.root / "keys" / keys.SIGNING_PUBLIC))
    with pytest.raises(ConfigError, match=r"audit.sign_with = .*Ed25519 key is needed"):
        place.trail(sign_with=str(place.root / "keys" / keys.SEALING_PRIVATE))
    with pytest.raises(ConfigError, match=r"segment_bytes = 1"):
        Trail(place.table(segment_bytes=1), "p")


def test_checkpoints_are_exported_as_they_are_made(place: Place, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    trail = place.trail(export=(ExportEntry(file=str(exported)),))
    trail.intent({"id": "a"})
    trail.outcome({"id": "a"})
    trail.close()
    report = place.verify(exported)
    assert report.problems == ()
    assert exported.read_bytes().strip() == (place.directory / CHECKPOINTS).read_bytes().strip()
