"""What is acknowledged is on disk, whatever the disk does; and nobody waits longer than for one sync."""

import json
import os
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from proxy.audit import AuditFault
from proxy.audit.records import Entry, read_directory, read_segment
from proxy.audit.verify import verify
from tests.audit.material import Place, fill, kinds

HERE = Path(__file__).parent
COMPILER = shutil.which("gcc") or shutil.which("cc")

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler to build the faulty library with"
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("library") / "faults.so"
    assert COMPILER is not None
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(made), str(HERE / "faults.c")]
    subprocess.run(command, check=True, capture_output=True)
    return made


def under(library: Path, work: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """Run scenarios in one process whose system calls fail."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(work))
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    # The measuring of coverage writes files too, and must not be disturbed.
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    command = [sys.executable, "-m", "tests.audit.faulty", str(plan)]
    done = subprocess.run(
        command,
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def ids(directory: Path, kind: str) -> list[str]:
    return [entry.body["id"] for entry in read_directory(directory, kinds=[kind])]


SWEEP = [
    (call, error, every, part)
    for call, error, part in (
        ("write", "ENOSPC", ".jsonl"),
        ("write", "EIO", ".jsonl"),
        ("write", "short", ".jsonl"),
        ("fdatasync", "EIO", ".jsonl"),
        ("fdatasync", "ENOSPC", ".jsonl"),
        ("fsync", "EIO", ""),
        ("rename", "EIO", ""),
    )
    for every in (1, 2, 3, 5, 9)
]


@needs_compiler
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
def test_no_intent_is_acknowledged_without_being_on_disk(
    place: Place, library: Path, tmp_path: Path, sealed: bool
) -> None:
    work = []
    for number, (call, error, every, part) in enumerate(SWEEP):
        changes = {"directory": str(tmp_path / f"disk-{number}"), "segment_bytes": 6000}
        if not sealed:
            changes["seal_to"] = None
        table = {**fields(place), **changes}
        work.append(
            {
                "call": call,
                "error": error,
                "every": every,
                "part": part,
                "count": 12,
                "table": table,
            }
        )
    found = under(library, work, tmp_path)
    assert sum(result["refused"] for result in found) > 100
    for scenario, result in zip(work, found, strict=True):
        check_disk(place, scenario, result)


def check_disk(place: Place, scenario: dict[str, Any], result: dict[str, Any]) -> None:
    directory = Path(scenario["table"]["directory"])
    where = str({key: scenario[key] for key in ("call", "error", "every")})
    recorded, outcomes = ids(directory, "intent"), ids(directory, "outcome")
    assert set(result["acknowledged"]) <= set(recorded), where
    assert len(result["acknowledged"]) + result["refused"] == 4 * 12, where
    assert {"after", *result["acknowledged"]} <= set(outcomes), where
    assert result["obstacle"] is None, where
    report = verify(directory, private=[place.private], signing=place.signing)
    assert report.problems == (), where
    assert report.unanswered == 0, where


def fields(place: Place) -> dict[str, Any]:
    table = place.table()
    return {name: getattr(table, name) for name in ("directory", "seal_to", "sign_with")}


@needs_compiler
@pytest.mark.parametrize(
    "fault", [("write", 0, "EIO"), ("fdatasync", 3, "EIO"), ("write", 4, "short")], ids=str
)
def test_nothing_is_sent_before_the_sync_of_its_intent_returned(
    place: Place, library: Path, tmp_path: Path, fault: tuple[str, int, str]
) -> None:
    log = tmp_path / "order.log"
    call, every, error = fault
    scenario = {
        "log": str(log),
        "call": call,
        "every": every,
        "error": error,
        "count": 25,
        "table": fields(place),
    }
    (result,) = under(library, [scenario], tmp_path)
    ends = {entry.body["id"]: (entry.segment, entry.end) for entry in place.entries("intent")}
    synced: dict[str, int] = {}
    sent = []
    for line in log.read_text().splitlines():
        what, path, size, code, detail = line.split("\t")
        name = Path(path).name.removesuffix(".jsonl").removeprefix(".new-")
        if what == "sync" and code == "0":
            synced[name] = max(int(size), synced.get(name, 0))
        elif what == "send":
            segment, end = ends[detail]
            assert synced[segment] >= end, detail
            sent.append(detail)
    assert sorted(sent) == sorted(result["acknowledged"])
    assert len(sent) > 40


def test_threads_share_syncs_and_every_record_is_there_once(place: Place) -> None:
    journal = place.journal()

    def work(caller: int) -> None:
        fill(journal, 50, f"caller-{caller}")

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = ids(place.directory, "intent")
    assert len(found) == len(set(found)) == 400
    assert sorted(ids(place.directory, "outcome")) == sorted(found)
    assert place.verify().problems == ()


def test_a_full_segment_goes_on_in_the_next_one(place: Place) -> None:
    journal = place.journal(segment_bytes=5000)
    journal.record("intent", {"id": "long"}, "long")
    fill(journal, 40)
    journal.note("outcome", {"id": "long"}, "long")
    journal.close()
    paths = place.paths()
    assert len(paths) > 3
    for before, path in pairwise(paths):
        first = next(read_segment(path))
        assert isinstance(first, Entry)
        assert first.body["previous"]["segment"] == before.stem
        assert first.body["carried"][0][0] == "long"
        assert kinds(before)[-1] == "closed"
    assert place.verify().problems == ()


def test_a_segment_that_was_moved_away_or_cut_is_given_up(place: Place) -> None:
    journal = place.journal()
    fill(journal, 2)
    path = place.paths()[0]
    path.rename(path.with_suffix(".moved"))
    journal.try_again()
    fill(journal, 2, "after")
    assert journal.faults == 1
    assert journal.obstacle is None
    second = place.paths()[0]
    os.truncate(second, 10)
    with pytest.raises(AuditFault, match="changed by somebody else"):
        journal.record("intent", {"id": "x"}, "x")
    journal.record("intent", {"id": "y"}, "y")
    journal.close()
    assert ids(place.directory, "intent")[-1] == "y"


def test_a_removed_segment_takes_no_intent_and_the_log_says_so(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    journal = place.journal()
    fill(journal, 1)
    place.paths()[0].unlink()
    with pytest.raises(AuditFault, match="removed"):
        journal.record("intent", {"id": "x"}, "x")
    assert journal.obstacle is not None
    assert "removed" in journal.obstacle
    assert journal.obstacle in caplog.text
    journal.close()


def test_outcomes_wait_in_memory_for_a_disk_that_takes_them(place: Place) -> None:
    journal = place.journal()
    journal.record("intent", {"id": "a"}, "a")
    place.paths()[0].unlink()
    place.directory.rmdir()
    journal.note("outcome", {"id": "a"}, "a")
    journal.sync()
    assert "takes no records" in str(journal.obstacle)
    journal.note("outcome", {"id": "b"}, "b")
    place.directory.mkdir()
    journal._not_before = 0.0
    journal.try_again()
    journal.sync()
    assert journal.obstacle is None
    assert ids(place.directory, "outcome") == ["a", "b"]
    (head,) = place.entries("header")
    assert [carried[0] for carried in head.body["carried"]] == ["a"]
    (abandoned,) = place.entries("abandoned")
    assert abandoned.body["again"] == ["a"]
    journal.close()


def test_the_lag_grows_until_the_sync(place: Place) -> None:
    journal = place.journal()
    assert journal.lag() == 0.0
    journal.note("outcome", {"id": "a"}, "a")
    assert journal.lag() > 0.0
    journal.sync()
    assert journal.lag() == 0.0
    journal.close()


def test_nothing_is_written_after_the_end(place: Place) -> None:
    journal = place.journal()
    fill(journal, 1)
    journal.close()
    with pytest.raises(AuditFault, match="closed"):
        journal.record("intent", {"id": "x"}, "x")


def test_open_calls_leave_the_segment_open(place: Place) -> None:
    journal = place.journal()
    journal.record("intent", {"id": "x"}, "x")
    journal.close()
    assert kinds(place.paths()[0])[-1] == "intent"
