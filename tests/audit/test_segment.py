"""A segment has its name when its header is durable, belongs to its process, and is private."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.audit.envelope import unseal
from proxy.audit.records import header
from proxy.audit.segment import PURPOSE, Segment, is_owned
from tests.audit.material import Place


def test_the_header_names_everything_that_a_reader_needs(place: Place) -> None:
    segment = Segment.create(place.directory, place.seal_to, {"policy": "p"})
    found = header(segment.path)
    assert found is not None
    assert {"version", "segment", "host", "pid", "boot", "key", "sealed", "policy"} == set(found)
    assert (found["pid"], found["segment"], found["policy"]) == (os.getpid(), segment.name, "p")
    opened = unseal(found["sealed"], place.private, purpose=PURPOSE, bound_to=segment.name.encode())
    assert len(opened) == 32
    assert [path.name for path in place.directory.iterdir()] == [segment.path.name]
    segment.release()


@pytest.mark.parametrize("sealed", [True, False])
def test_files_are_for_their_owner_only(place: Place, sealed: bool) -> None:
    segment = Segment.create(place.directory, place.seal_to if sealed else None, {})
    found = {path.stat().st_mode & 0o777 for path in place.directory.iterdir()}
    assert found == {0o600}
    assert len(list(place.directory.glob("*.key"))) == (0 if sealed else 1)
    segment.release()


def test_a_segment_is_owned_as_long_as_its_process_lives(place: Place) -> None:
    code = (
        "import sys; from pathlib import Path; from proxy.audit.segment import Segment;"
        f"print(Segment.create(Path({str(place.directory)!r}), None, {{}}).path, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert is_owned(path)
        process.kill()
        process.wait()
        assert not is_owned(path)


def test_nothing_is_left_where_a_segment_could_not_be_begun(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Segment.create(tmp_path / "nowhere", None, {})
    # Nothing fits: the header is cut at once.
    code = (
        "import resource, sys; from pathlib import Path; from proxy.audit.segment import Segment\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"try: Segment.create(Path({str(tmp_path)!r}), None, {{}})\n"
        "except OSError as error: print(error.strerror)"
    )
    environment = {key: value for key, value in os.environ.items() if "COV" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("only 100 of")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path) -> None:
    code = (
        "import resource; from pathlib import Path; from proxy.audit.segment import Segment\n"
        f"segment = Segment.create(Path({str(tmp_path)!r}), None, {{}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (segment.size + 500,) * 2)\n"
        "data = b''.join(segment.line('intent', b'{}') for _ in range(9))\n"
        "try: segment.write(data)\n"
        "except OSError as error: print(segment.path)"
    )
    environment = {key: value for key, value in os.environ.items() if "COV" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    text = Path(done.stdout.strip()).read_bytes()
    assert text.endswith(b'"}')
    assert 2 < len(text.split(b"\n")) < 9


def test_a_forked_child_holds_neither_file_nor_key(place: Place) -> None:
    segment = Segment.create(place.directory, None, {})
    assert is_owned(segment.path)
    segment.release()
    assert not is_owned(segment.path)
