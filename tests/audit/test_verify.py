"""Every way to change a trail is found, and named with the first record it concerns."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.audit.chain import Chain
from proxy.audit.checkpoint import NOTHING_BEFORE, CheckpointLog
from proxy.audit.encode import encode
from proxy.audit.ledger import Problem
from proxy.audit.records import CHECKPOINTS, KEY_SUFFIX, KINDS, new_name, signed_line, unsigned_line
from proxy.audit.segment import Segment
from tests.audit.material import Place, fill


@pytest.fixture
def filled(place: Place) -> Place:
    """Two segments of two processes, the first signed several times on its way."""
    with place.led() as (journal, overseer):
        fill(journal, 5, "early")
        overseer.tick()
        fill(journal, 4, "late")
    with place.led() as (journal, _):
        fill(journal, 5, "later")
    assert place.verify().problems == ()
    return place


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")


def rewrite(path: Path, changed: list[bytes]) -> None:
    path.write_bytes(b"\n".join(changed))


def edit(path: Path) -> None:
    text = lines(path)
    text[6] = text[6].replace(b'"ok"', b'"no"').replace(b'"m"', b'"x"')
    rewrite(path, text)


def delete(path: Path) -> None:
    rewrite(path, lines(path)[:6] + lines(path)[7:])


def reorder(path: Path) -> None:
    text = lines(path)
    text[6], text[8] = text[8], text[6]
    rewrite(path, text)


def repeat(path: Path) -> None:
    text = lines(path)
    rewrite(path, [*text[:7], text[3], *text[7:]])


def truncate(path: Path) -> None:
    rewrite(path, lines(path)[:6])


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: len(b"\n".join(lines(path)[:6])) + 20])


def pad(path: Path) -> None:
    text = lines(path)
    rewrite(path, [*text[:6], b"", *text[6:]])


def blur(path: Path) -> None:
    text = lines(path)
    text[6] = text[6][:-1]
    rewrite(path, text)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def behead(path: Path) -> None:
    rewrite(path, [b"", *lines(path)[6:]])


TAMPERING = [
    (edit, "edited", 5),
    (delete, "deleted", 5),
    (reorder, "reordered", 5),
    (repeat, "added", 6),
    (truncate, "truncated", 5),
    (tear, "edited", 5),
    (pad, "edited", 5),
    (blur, "edited", 5),
    (empty, "truncated", 0),
    (behead, "deleted", 0),
]


@pytest.mark.parametrize(
    ("tamper", "what", "seq"), TAMPERING, ids=lambda value: getattr(value, "__name__", "")
)
def test_tampering_is_named_with_the_first_record(
    filled: Place, tamper: Callable[[Path], None], what: str, seq: int
) -> None:
    path = filled.paths()[0]
    tamper(path)
    first = filled.verify().first
    assert first is not None
    assert (first.what, first.segment, first.seq) == (what, path.stem, seq)
    assert first.what in str(first)


@pytest.mark.parametrize(
    ("tamper", "what", "seq"), TAMPERING, ids=lambda value: getattr(value, "__name__", "")
)
def test_without_the_private_key_checkpoints_tell_of_the_same(
    filled: Place, tamper: Callable[[Path], None], what: str, seq: int
) -> None:
    path = filled.paths()[0]
    tamper(path)
    first = filled.verify(private=False).first
    assert first is not None
    assert first.segment == path.stem
    assert first.seq is not None
    # An edit is known to lie between two checkpoints, everything else to the record.
    assert first.seq <= seq


def test_whole_segments_that_go_are_missed(filled: Place) -> None:
    path = filled.paths()[0]
    path.unlink()
    first = filled.verify().first
    assert first is not None
    assert (first.what, first.segment) == ("missing", path.stem)


def test_a_segment_under_another_name_is_foreign(filled: Place) -> None:
    path = filled.paths()[0]
    other = path.with_name(f"{new_name()}.jsonl")
    other.write_bytes(path.read_bytes())
    first = filled.verify().first
    assert first is not None
    assert (first.what, first.segment) == ("foreign", other.stem)


def test_a_segment_that_was_slipped_in_later_is_foreign(filled: Place) -> None:
    segment = Segment.create(filled.directory, filled.seal_to, {})
    segment.release()
    old = "20200101T000000.000000Z_host_1_00000000"
    Path(segment.path).rename(filled.directory / f"{old}.jsonl")
    assert [problem.what for problem in filled.verify(private=False).problems] == ["foreign"]


def test_a_segment_sealed_to_another_key_is_foreign(filled: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    Segment.create(filled.directory, other.seal_to, {}).release()
    first = filled.verify().first
    assert first is not None
    assert (first.what, first.seq) == ("foreign", 0)


def rebuilt(path: Path, key: bytes, begin: int) -> None:
    """The end of a segment made anew by somebody who had the key as it was ``begin`` records on."""
    text = lines(path)
    chain = Chain(key)
    for _ in range(begin):
        chain.seal(b"")
    chain.mac = bytes.fromhex(re.findall(rb'"mac":"(\w{64})"}', text[begin])[0].decode())
    for number in range(begin + 1, len(text)):
        unsigned = text[number].rpartition(b',"mac":')[0].replace(b'"ok"', b'"no"')
        text[number] = b'%b,"mac":"%b"}' % (unsigned, chain.seal(unsigned).hex().encode())
    rewrite(path, text)


def start_key(path: Path) -> bytes:
    return bytes.fromhex(path.with_name(f"{path.stem}{KEY_SUFFIX}").read_text())


def unsealed(tmp_path: Path) -> tuple[Place, Path]:
    place = Place(tmp_path, sealed=False)
    with place.led() as (journal, _):
        fill(journal, 5)
    return place, place.paths()[0]


def test_an_end_made_anew_with_a_later_key_is_told_from_an_edit(tmp_path: Path) -> None:
    place, path = unsealed(tmp_path)
    later = Chain(start_key(path))
    for _ in range(9):
        later.seal(b"")
    text = lines(path)
    chain = Chain(bytes(later._key))
    chain.mac = bytes.fromhex(text[4][-66:-2].decode())
    for number in range(5, len(text)):
        unsigned = text[number].rpartition(b',"mac":')[0].replace(b'"ok"', b'"no"')
        text[number] = b'%b,"mac":"%b"}' % (unsigned, chain.seal(unsigned).hex().encode())
    rewrite(path, text)
    first = place.verify().first
    assert first is not None
    assert (first.what, first.seq) == ("re-sealed", 4)
    assert "key of record 9" in first.detail


def test_an_end_made_anew_with_the_right_keys_contradicts_the_checkpoints(tmp_path: Path) -> None:
    place, path = unsealed(tmp_path)
    rebuilt(path, start_key(path), 4)
    first = place.verify().first
    assert first is not None
    assert first.what == "re-sealed"
    assert "checkpoint" in first.detail


def test_a_segment_that_grew_after_it_was_answered_for_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path, sealed=False)
    dead = place.journal()
    dead.record("intent", {"id": "a"}, "a")
    dead.forget()
    path = place.paths()[0]
    with place.led():
        pass
    chain, text = Chain(start_key(path)), lines(path)
    for line in text[1:]:
        chain.seal(line.rpartition(b',"mac":')[0])
    unsigned = unsigned_line(2, "outcome", encode({"id": "a", "outcome": "ok"}))
    path.write_bytes(path.read_bytes() + signed_line(unsigned, chain.seal(unsigned)))
    assert (problem(place).what, problem(place).seq) == ("added", 2)
    (place.directory / CHECKPOINTS).unlink()
    found = [(each.what, each.segment, each.seq) for each in place.verify().problems]
    assert found[0] == ("added", path.stem, 2)


def test_a_segment_is_missed_by_the_one_that_went_on(place: Place) -> None:
    journal = place.journal(segment_bytes=5000)
    fill(journal, 40)
    journal.close()
    first, second, third = place.paths()[:3]
    first.unlink()
    whole = second.read_bytes()
    second.write_bytes(whole[: whole.index(b"\n", 2500)])
    found = [(each.what, each.segment) for each in place.verify().problems]
    assert found == [("missing", first.stem), ("truncated", second.stem)]
    assert third.exists()


def test_a_segment_of_another_version_is_not_guessed_at(place: Place) -> None:
    Segment.create(place.directory, place.seal_to, {"version": 9}).release()
    found = problem(place)
    assert found.what == "foreign"
    assert "version 9" in found.detail


def test_a_start_key_that_is_not_its_own_or_is_gone_is_told(tmp_path: Path) -> None:
    place, path = unsealed(tmp_path)
    key = path.with_name(f"{path.stem}{KEY_SUFFIX}")
    key.write_text(bytes(32).hex())
    assert problem(place).what == "foreign"
    key.unlink()
    report = place.verify()
    assert report.problems == ()
    assert (report.unchecked, report.unsealed) == (1, 1)


def test_calls_may_be_answered_for_in_a_segment_that_is_older(place: Place) -> None:
    with place.led() as (_, overseer):
        dead = place.journal()
        dead.record("intent", {"id": "a"}, "a")
        dead.forget()
        overseer.tick()
    report = place.verify()
    assert (report.problems, report.recovered, report.unanswered) == ((), 1, 0)


def test_intents_that_were_refused_are_not_unanswered(place: Place) -> None:
    journal = place.journal()
    journal.record("intent", {"id": "a"}, "a")
    journal.record("abandoned", {"segment": "s", "refused": ["a"], "again": []})
    journal.close()
    assert place.verify().unanswered == 0


def test_a_cut_write_at_the_end_is_no_tampering(place: Place) -> None:
    journal = place.journal()
    fill(journal, 3)
    with place.paths()[0].open("ab") as file:
        file.write(b'\n{"seq":7,"time":"20')
    report = place.verify()
    assert report.problems == ()
    assert report.cut == 1
    journal.forget()


def test_the_report_counts_what_was_read(filled: Place) -> None:
    report = filled.verify()
    assert (report.segments, report.intents, report.outcomes, report.unanswered) == (2, 14, 14, 0)
    assert (report.unchecked, report.unsealed, report.cut) == (0, 0, 0)
    assert filled.verify(private=False).unchecked == 2


def test_pruned_segments_are_not_missed(filled: Place) -> None:
    path = filled.paths()[0]
    log = CheckpointLog(filled.directory, filled.signer)
    anchor = next(a for s in log.entries() for a in s.entry.segments if a.segment == path.stem)
    log.append("pruned", [anchor])
    path.unlink()
    assert filled.verify().problems == ()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path, bytes]:
    """A segment that was closed and signed, and its bytes."""
    place = Place(tmp_path_factory.mktemp("closed"))
    with place.led() as (journal, _):
        fill(journal, 3)
    (path,) = place.paths()
    return place, path, path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(
    place=st.integers(0, 10_000),
    gone=st.integers(0, 300),
    put=st.binary(max_size=3) | st.sampled_from([b"\n", b"\n{}", b"[" * 5000, b'"', b"\\"]),
    with_key=st.booleans(),
)
def test_no_byte_can_be_changed_unseen(
    closed: tuple[Place, Path, bytes], place: int, gone: int, put: bytes, with_key: bool
) -> None:
    trail, path, whole = closed
    place %= len(whole) + 1
    changed = whole[:place] + put + whole[place + gone :]
    path.write_bytes(changed)
    assert bool(trail.verify(private=with_key).problems) == (changed != whole)


HOSTILE = [
    {"previous": 7, "carried": 3, "sealed": []},
    {
        "previous": {"segment": [], "seq": 1},
        "carried": [1, ["a"], [{}, [], ()]],
        "sealed": {"to": []},
    },
    {"sealed": {"to": "x", "box": 1}, "version": [], "segment": {}},
    {"number": "x", "digest": [], "refused": 5, "id": {}},
]


@pytest.mark.parametrize("body", HOSTILE, ids=str)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "closed"])
def test_a_hostile_record_stops_neither_verify_nor_recovery(
    place: Place, kind: str, body: dict[str, Any]
) -> None:
    name = new_name()
    text = b""
    for number, what in enumerate(("header", kind)):
        text += signed_line(
            unsigned_line(number, what, encode({"segment": name, **body})), bytes(32)
        )
    (place.directory / f"{name}.jsonl").write_bytes(text)
    with place.led() as (_, overseer):
        assert overseer.failures == 0
    assert name in [problem.segment for problem in place.verify().problems]
    place.verify(private=False)


def test_a_name_that_is_no_time_is_no_segment(filled: Place) -> None:
    (filled.directory / "20269999T000000.000000Z_host_1_00000000.jsonl").write_text("x")
    assert filled.verify().problems == ()


# -- the log of checkpoints ----------------------------------------------------------------------


def problem(place: Place, *exported: Path) -> Problem:
    first = place.verify(*exported).first
    assert first is not None
    return first


def test_a_changed_checkpoint_has_a_bad_signature(filled: Place) -> None:
    log = filled.directory / CHECKPOINTS
    text = lines(log)
    text[2] = text[2].replace(b'"seq":', b'"seq":1')
    rewrite(log, text)
    assert "bad signature" in [problem.what for problem in filled.verify().problems]


def test_a_checkpoint_that_goes_is_missed(filled: Place) -> None:
    log = filled.directory / CHECKPOINTS
    rewrite(log, lines(log)[:2] + lines(log)[3:])
    assert (problem(filled).what, problem(filled).seq) == ("deleted", 2)


def test_checkpoints_in_another_order_are_noticed(filled: Place) -> None:
    log = filled.directory / CHECKPOINTS
    text = lines(log)
    text[1], text[2] = text[2], text[1]
    rewrite(log, text)
    assert problem(filled).segment == CHECKPOINTS


def test_checkpoints_that_were_cut_off_contradict_the_segments(filled: Place) -> None:
    log = filled.directory / CHECKPOINTS
    rewrite(log, lines(log)[:1])
    found = problem(filled)
    assert (found.what, found.segment) == ("truncated", CHECKPOINTS)


def test_what_was_exported_convicts_who_changed_segments_and_checkpoints_alike(
    filled: Place, tmp_path: Path
) -> None:
    log = filled.directory / CHECKPOINTS
    exported = tmp_path / "syslog"
    exported.write_bytes(b"\n".join(b"<109>1 - host outgate 1 - - " + line for line in lines(log)))
    assert filled.verify(exported).problems == ()
    for path in filled.paths():
        path.unlink()
    log.unlink()
    assert filled.verify().problems == ()
    report = filled.verify(exported)
    assert {problem.what for problem in report.problems} == {"missing", "truncated"}


def test_who_has_the_signing_key_is_convicted_by_what_was_exported(
    filled: Place, tmp_path: Path
) -> None:
    log = filled.directory / CHECKPOINTS
    exported = tmp_path / "exported"
    exported.write_bytes(log.read_bytes())
    edit(filled.paths()[0])
    log.unlink()
    overseer = filled.overseer(filled.journal())
    overseer.tick()  # signs what is there now, with the right key
    edited = ("edited", filled.paths()[0].stem)
    alone, compared = filled.verify(private=False), filled.verify(exported, private=False)
    assert edited not in [(each.what, each.segment) for each in alone.problems]
    found = [(each.what, each.segment) for each in compared.problems]
    assert edited in found
    assert ("edited", CHECKPOINTS) in found
    overseer.release()


def test_a_checkpoint_signed_with_another_key_counts_for_nothing(
    filled: Place, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    CheckpointLog(filled.directory, other.signer).append("checkpoint", [])
    assert problem(filled).what == "bad signature"


def test_a_log_line_that_was_cut_is_passed_over(filled: Place) -> None:
    log = filled.directory / CHECKPOINTS
    with log.open("ab") as file:
        file.write(b'\n{"number":99,"ti')
    assert filled.verify().problems == ()
    stored = CheckpointLog(filled.directory, filled.signer).append("checkpoint", [])
    assert stored.entry.number < 99
    assert stored.entry.previous != NOTHING_BEFORE
    assert filled.verify().problems == ()
