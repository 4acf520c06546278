"""Checkpoints are signed, follow from each other, and say what the segments hold."""

import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest

from proxy.audit.checkpoint import (
    NOTHING_BEFORE,
    Anchor,
    CheckpointLog,
    parse,
    read_checkpoints,
)
from proxy.audit.follower import Follower, Shrunk
from proxy.audit.records import Entry, read_segment
from tests.audit.material import Place, fill

ANCHOR = Anchor(segment="s", seq=1, bytes=2, sha256="a", mac="b")


def test_entries_are_signed_and_each_names_the_one_before(place: Place, tmp_path: Path) -> None:
    log = CheckpointLog(place.directory, place.signer)
    made = [log.append("checkpoint", [ANCHOR]) for _ in range(3)]
    found = list(log.entries())
    assert found == made
    assert [stored.entry.number for stored in found] == [1, 2, 3]
    assert [stored.entry.previous for stored in found] == [
        NOTHING_BEFORE, found[0].digest, found[1].digest,
    ]  # fmt: skip
    assert len({stored.entry.trail for stored in found}) == 1
    assert all(stored.is_signed_by(place.signing) for stored in found)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    assert not found[0].is_signed_by(other.signing)
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_changed_entry_is_not_signed(place: Place) -> None:
    stored = CheckpointLog(place.directory, place.signer).append("checkpoint", [ANCHOR])
    for old, new in ((b'"seq":1', b'"seq":9'), (b'"kind":"checkpoint"', b'"kind":"pruned"')):
        changed = parse(stored.line.replace(old, new))
        assert changed is not None
        assert not changed.is_signed_by(place.signing)
    bare = parse(stored.line.rpartition(b',"signature"')[0] + b',"signature":null}')
    assert bare is not None
    assert not bare.is_signed_by(place.signing)
    broken = parse(stored.line.rpartition(b',"signature"')[0] + b',"signature":"AAA"}')
    assert broken is not None
    assert not broken.is_signed_by(place.signing)


def test_without_a_key_entries_still_follow_from_each_other(place: Place) -> None:
    log = CheckpointLog(place.directory, None)
    log.append("checkpoint", [])
    stored = log.append("pruned", [ANCHOR])
    assert stored.entry.signature is None
    assert stored.entry.key is None
    assert not stored.is_signed_by(place.signing)


def test_an_entry_that_was_cut_is_passed_over_by_the_next(place: Place) -> None:
    log = CheckpointLog(place.directory, place.signer)
    first = log.append("checkpoint", [ANCHOR] * 20_000)
    os.truncate(log.path, log.path.stat().st_size - 5)
    assert list(log.entries()) == []
    assert log.append("checkpoint", []).entry.number == 1
    assert log.append("checkpoint", [ANCHOR] * 20_000).entry.number == 2
    assert log.append("checkpoint", []).entry.number == 3
    assert [stored is None for _, stored in read_checkpoints(log.path)] == [
        True,
        False,
        False,
        False,
    ]
    assert first.entry.number == 1


def test_a_log_that_is_not_there_has_no_entries(place: Place) -> None:
    assert list(CheckpointLog(place.directory, None).entries()) == []


def test_a_fork_in_the_middle_of_an_entry_keeps_nobody_from_the_next(place: Place) -> None:
    log, stop = CheckpointLog(place.directory, place.signer), threading.Event()

    def append() -> None:
        while not stop.is_set():
            log.append("checkpoint", [])

    thread = threading.Thread(target=append)
    thread.start()
    reading, writing = os.pipe()
    children = []
    for _ in range(15):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # holds whatever was open, until the parent ends
            os._exit(0)
        children.append(child)
    stop.set()
    thread.join()
    log.append("checkpoint", [])
    os.close(writing)
    for child in children:
        os.waitpid(child, 0)
    os.close(reading)
    assert place.verify().problems == ()


def test_an_entry_waits_for_who_appends_but_not_for_ever(place: Place) -> None:
    log = CheckpointLog(place.directory, place.signer)
    log.append("checkpoint", [])
    with log.path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            log.append("checkpoint", [])
    assert log.append("checkpoint", []).entry.number == 2


# -- reading along -------------------------------------------------------------------------------


def test_a_follower_hashes_exactly_the_whole_records(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3)
    follower = Follower(place.paths()[0])
    for count in (0, 2, 0):
        fill(journal, count, f"more-{count}")
        follower.advance()
        text = follower.path.read_bytes()
        anchor = follower.anchor(final=False)
        assert (anchor.bytes, anchor.sha256) == (len(text), hashlib.sha256(text).hexdigest())
        assert follower.holds(anchor)
    last = list(read_segment(follower.path))[-1]
    assert isinstance(last, Entry)
    assert (follower.seq, follower.mac, follower.kind) == (last.seq, last.mac, last.kind)
    journal.forget()


def test_a_follower_waits_for_the_rest_of_a_record(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3)
    journal.forget()
    path = place.paths()[0]
    whole = path.read_bytes()
    follower = Follower(path)
    path.write_bytes(whole[:-10])
    follower.advance()
    assert follower.bytes == whole.rfind(b"\n")
    assert follower.seq == 5
    path.write_bytes(whole)
    follower.advance()
    assert (follower.bytes, follower.seq) == (len(whole), 6)


def test_a_follower_notices_a_shorter_file_and_another_content(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3)
    journal.forget()
    follower = Follower(place.paths()[0])
    follower.advance()
    anchor = follower.anchor(final=True)
    text = follower.path.read_bytes()
    follower.path.write_bytes(text.replace(b'"ok"', b'"no"'))
    assert not follower.holds(anchor)
    follower.path.write_bytes(text[:50])
    assert not follower.holds(anchor)
    with pytest.raises(Shrunk, match="shorter"):
        follower.advance()


def test_what_is_no_entry_is_none() -> None:
    assert parse(b"{}") is None
    assert parse(b"\xff") is None
