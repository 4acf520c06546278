"""A segment reads back as it was written, at every point where it may have been cut."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.audit.chain import Chain
from proxy.audit.encode import encode
from proxy.audit.records import (
    KINDS,
    Broken,
    Entry,
    begun,
    header,
    is_name,
    new_name,
    read_directory,
    read_segment,
    segments,
    signed_line,
    unsigned_line,
)

BODIES = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(-9, 9), max_size=4),
    ),
    min_size=1,
    max_size=8,
)


def written(bodies: list[tuple[str, dict[str, Any]]]) -> bytes:
    chain, text = Chain(bytes(32)), b""
    for seq, (kind, body) in enumerate(bodies):
        unsigned = unsigned_line(seq, kind, encode(body))
        text += signed_line(unsigned, chain.seal(unsigned))
    return text


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments") / f"{new_name()}.jsonl"


@given(BODIES)
def test_what_was_written_is_read(path: Path, bodies: list[tuple[str, dict[str, Any]]]) -> None:
    text = written(bodies)
    path.write_bytes(text)
    found = list(read_segment(path))
    chain = Chain(bytes(32))
    for number, (entry, (kind, body)) in enumerate(zip(found, bodies, strict=True)):
        assert isinstance(entry, Entry)
        assert (entry.seq, entry.kind, entry.body, entry.line) == (number, kind, body, number + 2)
        assert text[entry.start : entry.end].startswith(entry.signed)
        assert chain.check(entry.signed, entry.mac)


@settings(max_examples=30)
@given(BODIES, st.integers(0, 5000))
def test_a_cut_costs_the_last_record_only(
    path: Path, bodies: list[tuple[str, dict[str, Any]]], cut: int
) -> None:
    text = written(bodies)
    path.write_bytes(text)
    whole = list(read_segment(path))
    cut %= len(text) + 1
    path.write_bytes(text[:cut])
    found = list(read_segment(path))
    entries = [entry for entry in found if isinstance(entry, Entry)]
    assert entries == [entry for entry in whole if entry.end <= cut]
    assert all(broken.last for broken in found if isinstance(broken, Broken))
    assert len(found) - len(entries) <= 1


@settings(max_examples=30)
@given(BODIES, BODIES)
def test_reading_goes_on_where_it_ended(
    path: Path, first: list[tuple[str, dict[str, Any]]], more: list[tuple[str, dict[str, Any]]]
) -> None:
    text = written([*first, *more])
    path.write_bytes(text)
    every = list(read_segment(path))
    last = every[len(first) - 1]
    assert list(read_segment(path, last.end, last.line)) == every[len(first) :]


def test_kinds_can_be_chosen(path: Path) -> None:
    path.write_bytes(written([(kind, {"kind": "intent"}) for kind in KINDS]))
    found = [
        entry.kind
        for entry in read_segment(path, kinds=("intent", "closed"))
        if isinstance(entry, Entry)
    ]
    assert found == ["intent", "closed"]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"null",
        b'{"seq":0}',
        b'{"seq":"0","time":"","mono":1,"kind":"intent","body":{},"mac":"%b"}' % (b"0" * 64),
        b'{"seq":0,"time":"","mono":1,"kind":"other","body":{},"mac":"%b"}' % (b"0" * 64),
        b'{"seq":0,"time":"","mono":1,"kind":"intent","body":{},"mac":"%b"}' % (b"0" * 63),
        b'{"seq":0,"time":"","mono":1,"kind":"intent","body":{},"x":1,"mac":"%b"}' % (b"0" * 64),
        b'{"seq":0,"time":"","mono":1,"kind":"intent","body":{},"mac":"%b","mac":"%b"}'
        % (b"1" * 64, b"0" * 63),
        b"\xff\xfe",
    ],
)
def test_what_is_no_record_is_broken_and_says_why(path: Path, line: bytes) -> None:
    path.write_bytes(written([("header", {})]) + b"\n" + line + b"\nmore")
    broken = list(read_segment(path))[1]
    assert isinstance(broken, Broken)
    assert (broken.line, broken.last) == (3, False)
    assert broken.why


def test_names_sort_by_time_and_tell_it() -> None:
    early = new_name(datetime(2026, 8, 1, 12, 0, 0, 5, UTC))
    late = new_name(datetime(2026, 8, 1, 12, 0, 1, tzinfo=UTC))
    assert early < late
    assert begun(early) == datetime(2026, 8, 1, 12, 0, 0, 5, UTC)
    assert is_name(early)
    assert not is_name("checkpoints")
    assert not is_name(f"../{early}")


def test_a_directory_is_read_in_order_and_other_files_are_left_alone(tmp_path: Path) -> None:
    names = [new_name(datetime(2026, 8, day, tzinfo=UTC)) for day in (2, 1)]
    for name in names:
        (tmp_path / f"{name}.jsonl").write_bytes(
            written([("header", {"segment": name}), ("intent", {"id": name})]) + b"\nbroken"
        )
    (tmp_path / "checkpoints.jsonl").write_text("{}")
    (tmp_path / f".new-{names[0]}.jsonl").write_text("{}")
    assert [path.stem for path in segments(tmp_path)] == names[::-1]
    found = [entry.body["id"] for entry in read_directory(tmp_path, kinds=["intent"])]
    assert found == names[::-1]
    later = datetime.now(UTC).replace(year=2099)
    assert list(read_directory(tmp_path, since=later)) == []
    assert header(tmp_path / f"{names[0]}.jsonl") == {"segment": names[0]}
    (tmp_path / f"{names[0]}.jsonl").write_bytes(b"")
    assert header(tmp_path / f"{names[0]}.jsonl") is None
