import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.log_jsonl import LogJsonl, _write
from proxy import ConfigError, Finding, Record, Secret, Verdict
from proxy.testing import PluginFailed, harness
from tests.gateway import COMPLETION, gateway

HOSTILE = [
    "a\r\nb",
    "\n",
    "\x1b[31mred\x1b[0m",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\x00\x7f\x9b",
    "é😀",
    '"}{"',
    "\ud800",
]


def record(**fields: Any) -> Record:
    known: dict[str, Any] = {
        "id": "req_1", "time": "2026-01-01T00:00:00.000+00:00", "endpoint": "completions",
        "outcome": "ok", "status": 200, "seconds": 0.1,
    }  # fmt: skip
    return Record(**{**known, **fields})


def lines(path: Path) -> list[Any]:
    data = path.read_bytes()
    assert data.isascii()
    return [json.loads(line) for line in data.decode().split("\n") if line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_each_record_is_one_line(path: Path) -> None:
    sink = LogJsonl(str(path))
    for number in range(3):
        sink.log_exchange(record(id=f"req_{number}", groups=("a", "b")))
    assert [line["id"] for line in lines(path)] == ["req_0", "req_1", "req_2"]
    assert lines(path)[0]["groups"] == ["a", "b"]
    assert "clipped" not in lines(path)[0]


def test_without_a_path_the_lines_go_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    result = harness("log_jsonl").completions()
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["id"] == result.record.id


def test_a_record_says_who_called_what_and_what_became_of_it(path: Path) -> None:
    plugin = {"use": "log_jsonl", "required": True, "options": {"path": str(path)}}
    with gateway(plugins=[plugin]) as gate:
        gate.ask(COMPLETION)
        told = gate.record()
    (line,) = lines(path)
    for name in ("id", "principal", "model", "outcome", "status", "digest", "policy"):
        assert line[name] == getattr(told, name)
    assert (line["principal"], line["outcome"], line["upstream"]) == ("alice", "ok", "main")
    assert line["usage"]["total_tokens"] == 2
    assert "Hello" not in path.read_text()
    assert " world" not in path.read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_caller_writes_a_line_stays_one_line_of_ascii(path: Path, text: str) -> None:
    sink = LogJsonl(str(path))
    sink.log_exchange(record(model=text, notes={text: text}, code=text))
    sink.log_exchange(record())
    data = path.read_bytes()
    assert data.isascii()
    assert data.count(b"\n") == 2
    assert not set(data) & {*range(10), *range(11, 32), 0x7F}
    expected = "?" if text == "\ud800" else text
    assert lines(path)[0]["model"] == expected
    assert lines(path)[0]["notes"] == {expected: expected}


def test_what_is_long_is_clipped_and_says_so(path: Path) -> None:
    finding = Finding("kind", "prompt", "plugin", "redact")
    LogJsonl(str(path)).log_exchange(
        record(
            model="m" * 1_000_000,
            findings=(finding,) * 50_000,
            verdicts=(Verdict("p" * 10_000, "guard_request", "deny", 1.0, "d" * 10_000),),
            notes={f"{n}{'k' * 2000}": "v" for n in range(1000)},
        )
    )
    (line,) = lines(path)
    assert path.stat().st_size < 100_000
    assert line["model"] == "m" * 512 + "...(+999488)"
    assert len(line["findings"]) == 100
    assert line["clipped"] is True


def test_notes_that_json_cannot_hold_do_not_lose_the_record(path: Path) -> None:
    notes = {"key": Secret("company-secret"), "nan": float("nan"), "at": Path("/x"), "half": 0.5}
    LogJsonl(str(path)).log_exchange(record(notes=notes))
    (line,) = lines(path)
    assert line["notes"] == {"key": "Secret(***)", "nan": "nan", "at": "/x", "half": 0.5}


def test_the_file_is_the_owners_alone(path: Path) -> None:
    LogJsonl(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_earlier_log_is_kept(path: Path) -> None:
    path.write_text('{"id": "earlier"}\n')
    LogJsonl(str(path)).log_exchange(record())
    assert [line["id"] for line in lines(path)] == ["earlier", "req_1"]


def test_a_fragment_of_a_killed_process_does_not_swallow_the_next_record(path: Path) -> None:
    path.write_text('{"id": "torn')
    sink = LogJsonl(str(path))
    sink.log_exchange(record(id="req_1"))
    with path.open("a") as another:  # another process, killed while it wrote
        another.write('{"id": "torn too')
    sink.log_exchange(record(id="req_2"))
    first, one, second, two, rest = path.read_text().split("\n")
    assert (json.loads(one)["id"], json.loads(two)["id"]) == ("req_1", "req_2")
    assert first.startswith('{"id": "torn{')
    assert second.startswith('{"id": "torn too{')
    assert rest == ""


def test_a_pipe_will_do(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    sink = LogJsonl(str(fifo))
    sink.log_exchange(record())
    with fifo.open() as file:
        assert json.loads(file.readline())["id"] == "req_1"


def test_a_full_disk_is_an_error() -> None:
    sink = LogJsonl("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        sink.log_exchange(record())
    assert caught.value.errno == errno.ENOSPC


def test_a_short_write_is_an_error_and_the_next_record_is_whole(path: Path) -> None:
    code = """
import resource, signal, sys
from tests.plugins.test_log_jsonl import LogJsonl, record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = LogJsonl(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
try:
    sink.log_exchange(record(model="m" * 400, code="c" * 400))
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
sink.log_exchange(record(id="req_2"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("only 600 of ")
    torn, whole, rest = path.read_text().split("\n")
    assert torn.startswith('{"id":"req_1"')
    assert json.loads(whole)["id"] == "req_2"
    assert rest == ""


def test_while_the_log_cannot_be_written_a_required_one_refuses_calls() -> None:
    plugin = {"use": "log_jsonl", "required": True, "options": {"path": "/dev/full"}}
    with gateway(plugins=[plugin]) as gate:
        gate.ask(COMPLETION)
        gate.record()
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "log_unavailable")
        assert len(gate.upstream.requests) == 1


def test_the_test_kit_reports_a_sink_that_fails() -> None:
    with pytest.raises(PluginFailed, match="log_exchange"):
        harness("log_jsonl", path="/dev/full").completions()


@pytest.mark.parametrize("where", ["/nowhere/calls.jsonl", "/"])
def test_a_path_that_cannot_be_written_stops_the_start(where: str) -> None:
    with pytest.raises(ConfigError, match="Name a file this user may read and write"):
        harness("log_jsonl", path=where)


@pytest.mark.parametrize("removed", [False, True])
def test_a_file_that_was_rotated_away_is_made_anew(path: Path, removed: bool) -> None:
    sink = LogJsonl(str(path))
    sink.log_exchange(record(id="req_1"))
    old = path.with_suffix(".1")
    path.unlink() if removed else path.rename(old)
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        sink.log_exchange(record(id="req_2"))
        time.sleep(0.05)
    assert {line["id"] for line in lines(path)} == {"req_2"}
    if not removed:
        assert lines(old)[0]["id"] == "req_1"


def test_threads_and_processes_append_whole_lines(path: Path) -> None:
    code = """
import sys
from tests.plugins.test_log_jsonl import LogJsonl, record
sink = LogJsonl(sys.argv[1])
for number in range(300):
    sink.log_exchange(record(id=f"{sys.argv[2]}-{number}", notes={str(i): "n" * 500 for i in range(20)}))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"process{i}"]) for i in range(3)
    ]
    sink = LogJsonl(str(path))

    def write(name: str) -> None:
        for number in range(300):
            sink.log_exchange(record(id=f"{name}-{number}"))

    threads = [threading.Thread(target=write, args=(f"thread{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    found = [line["id"] for line in lines(path)]
    writers = ("process0", "process1", "process2", "thread0", "thread1", "thread2")
    for writer in writers:
        ids = [name for name in found if name.startswith(writer)]
        assert ids == [f"{writer}-{number}" for number in range(300)]
    assert len(found) == 1800


def test_a_forked_process_goes_on_in_the_same_file(path: Path) -> None:
    code = """
import os, sys
from tests.plugins.test_log_jsonl import LogJsonl, record
sink = LogJsonl(sys.argv[1])
child = os.fork()
for number in range(200):
    sink.log_exchange(record(id=f"{'child' if child == 0 else 'parent'}-{number}"))
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert len({line["id"] for line in lines(path)}) == 400


def test_records_survive_the_kill_of_any_process(path: Path) -> None:
    code = """
import sys
from tests.plugins.test_log_jsonl import LogJsonl, record
sink = LogJsonl(sys.argv[1])
number = 0
while True:
    sink.log_exchange(record(id=f"{sys.argv[2]}-{number}"))
    print(number, flush=True)
    number += 1
"""
    acknowledged: dict[str, int] = {}
    for round_ in range(3):
        pair = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(path), f"r{round_}p{i}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]
        for process in pair:
            assert process.stdout is not None
            process.stdout.readline()
        for i, process in enumerate(pair):
            process.kill()
            rest, _ = process.communicate()
            done = [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
            acknowledged[f"r{round_}p{i}"] = max(done, default=0)
    found = set()
    for line in path.read_text().split("\n"):
        try:
            found.add(json.loads(line)["id"])
        except ValueError:
            continue  # what a killed process had not acknowledged
    for name, last in acknowledged.items():
        assert {f"{name}-{number}" for number in range(last + 1)} <= found


def test_a_write_that_falls_short_is_an_error() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        with pytest.raises(OSError, match=r"only [0-9]+ of 10000000 bytes"):
            _write(writer, b"x" * 10_000_000)
    finally:
        os.close(reader)
        os.close(writer)


def test_the_descriptor_is_not_inherited_by_other_programs(path: Path) -> None:
    sink = LogJsonl(str(path))
    assert sink._file is not None
    assert not os.get_inheritable(sink._file._descriptor)
