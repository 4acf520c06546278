"""The list of disagreements: whole lines from several writers, no content, and nothing that a terminal acts upon."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.rehearsal.decision import Decision, denied
from proxy.rehearsal.report import Disagreement, Report, line_of, named, read_report
from proxy.rehearsal.table import ShadowTable


def found(number: int = 0, *, time: str = "2026-08-01T12:00:00.000+00:00") -> Disagreement:
    return Disagreement(
        time=time, id=f"req_{number}", endpoint="chat", differs=("verdict",),
        live=Decision(verdict="allowed", findings={"email mask": 2}),
        shadow=denied("pii", "content_policy_violation"),
        principal="alice\x1b[2J\x7f", model="m",
    )  # fmt: skip


def table(folder: Path, **changes: int) -> ShadowTable:
    return ShadowTable(config="next.toml", report=str(folder / "shadow.jsonl"), **changes)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    report = Report(table(tmp_path))
    assert report.append(found(1))
    assert report.append(found(2))
    assert list(read_report(tmp_path / "shadow.jsonl")) == [found(1), found(2)]
    assert (tmp_path / "shadow.jsonl").stat().st_mode & 0o77 == 0


def test_a_line_is_printable_ascii() -> None:
    line = line_of(found())
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert line.endswith(b"\n")


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    reports = [Report(table(tmp_path)) for _ in range(4)]

    def write(number: int) -> None:
        assert reports[number % 4].append(found(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(200)))
    read = list(read_report(tmp_path / "shadow.jsonl"))
    assert {item.id for item in read if item} == {f"req_{number}" for number in range(200)}


def test_a_file_that_was_renamed_is_made_anew(tmp_path: Path) -> None:
    report = Report(table(tmp_path))
    report.append(found(1))
    (tmp_path / "shadow.jsonl").rename(tmp_path / "old.jsonl")
    report.append(found(2))
    assert list(read_report(tmp_path / "shadow.jsonl")) == [found(2)]


def test_a_full_file_takes_no_more(tmp_path: Path) -> None:
    report = Report(table(tmp_path, report_bytes=4096))
    (tmp_path / "shadow.jsonl").write_bytes(b"\n" * 4000)
    assert not report.append(found())


def test_what_is_no_line_of_the_list_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    path.write_bytes(b"\xff\n{}\n" + line_of(found()) + b'{"time":')
    assert list(read_report(path)) == [None, None, found(), None]


def test_older_ones_are_left_out_by_time(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    path.write_bytes(line_of(found(1)) + line_of(found(2, time="2026-08-02T12:00:00.000+00:00")))
    since = datetime(2026, 8, 2, tzinfo=UTC)
    assert [item.id for item in read_report(path, since) if item] == ["req_2"]
    naive = since.replace(tzinfo=None)
    assert [item.id for item in read_report(path, naive) if item] == ["req_2"]


def test_a_file_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shadow\.report = .*No such file"):
        Report(table(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="--report"):
        list(read_report(tmp_path / "nothing"))


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_line_that_was_not_written_is_an_error() -> None:
    report = Report(ShadowTable(config="next.toml", report="/dev/full"))
    with pytest.raises(OSError, match="No space"):
        report.append(found())


def test_names_are_short_and_can_be_written() -> None:
    assert named(None) is None
    assert named("x" * 1000) == "x" * 256
    assert named("\ud800") == "?"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": ""}, "config and report name files"),
        ({"share": 0.0}, "share = 0.0"),
        ({"share": float("nan")}, "share = nan"),
        ({"waiting": 0}, "waiting = 0"),
        ({"report_bytes": 10}, "write 4096 or more"),
    ],
)
def test_values_that_could_do_nothing_are_mistakes(changes: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ShadowTable(**{"config": "next.toml", **changes})  # type: ignore[arg-type]
