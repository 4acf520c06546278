"""What retention removes, what it keeps, and that the rest can be verified."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.audit.checkpoint import Anchor, CheckpointLog
from proxy.audit.follower import Follower
from proxy.audit.records import SUFFIX
from proxy.audit.retention import Due, Retention
from proxy.errors import ConfigError
from tests.audit.material import Place, fill

#: Later than anything that a test writes.
LATER = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def closed(place: Place, count: int = 3) -> list[str]:
    """Segments that were written, closed and signed, one after the other."""
    names = []
    for number in range(count):
        with place.led() as (journal, _):
            names.append(place.paths()[-1].stem)
            fill(journal, 2, f"call-{number}")
    return names


def names(due: Due) -> list[str]:
    return [anchor.segment for anchor in due.segments]


def test_closed_segments_go_and_the_rest_is_still_verified(place: Place) -> None:
    first, second, third = closed(place)
    exported = place.root / "exported"
    exported.write_bytes((place.directory / "checkpoints.jsonl").read_bytes())
    retention = Retention(place.directory, place.signer)
    due = retention.due(now() + LATER)
    assert names(due) == [first, second, third]
    told: list[int] = []
    retention.remove(due, told.append)
    assert sum(told) == 3
    assert place.paths() == []
    (fourth,) = closed(place, 1)
    report = place.verify(exported)
    assert report.problems == ()
    assert [path.stem for path in place.paths()] == [fourth]


def test_what_is_younger_stays(place: Place) -> None:
    (first,) = closed(place, 1)
    between = now()
    closed(place, 2)
    retention = Retention(place.directory, place.signer)
    assert names(retention.due(between)) == [first]
    assert retention.due(now() - LATER) == Due()
    retention.remove(retention.due(between))
    assert len(place.paths()) == 2
    assert place.verify().problems == ()


def test_a_segment_that_is_written_or_was_left_open_stays(place: Place) -> None:
    journal = place.journal()
    fill(journal, 2)
    due = Retention(place.directory, place.signer).due(now() + LATER)
    assert due == Due(open=(place.paths()[0].stem,))
    journal.close()
    assert Retention(place.directory, place.signer).due(now() + LATER) == due
    with place.led():
        pass
    assert len(names(Retention(place.directory, place.signer).due(now() + LATER))) == 2


@pytest.mark.parametrize("change", ["edited", "added", "cut"])
def test_what_was_changed_is_evidence_and_stays(place: Place, change: str) -> None:
    first, _ = closed(place, 2)
    path = place.paths()[0]
    text = path.read_bytes()
    last = text[text.rindex(b"\n") :]
    match change:
        case "edited":
            path.write_bytes(text.replace(b'"model":"m"', b'"model":"n"', 1))
        case "added":
            path.write_bytes(text + last)
        case "cut":
            path.write_bytes(text[: -len(last)])
    due = Retention(place.directory, place.signer).due(now() + LATER)
    assert due.changed == (first,)
    assert len(due.segments) == 1


def test_a_write_that_was_cut_by_a_kill_is_no_change(place: Place) -> None:
    journal = place.journal()
    fill(journal, 1)
    journal.close()
    path = place.paths()[0]
    path.write_bytes(path.read_bytes() + b'\n{"seq":')
    with place.led():
        pass
    assert path.stem in names(Retention(place.directory, place.signer).due(now() + LATER))


def test_a_final_checkpoint_that_somebody_else_wrote_removes_nothing(place: Place) -> None:
    first, second = closed(place, 2)
    forged = CheckpointLog(place.directory, Ed25519PrivateKey.generate())
    anchors = [
        anchor
        for stored in forged.entries()
        for anchor in stored.entry.segments
        if anchor.segment == second and anchor.final
    ]
    log = place.directory / "checkpoints.jsonl"
    kept = [line for line in log.read_bytes().split(b"\n") if b'"final":true' not in line]
    log.write_bytes(b"\n".join(kept))
    forged.append("checkpoint", anchors)
    due = Retention(place.directory, place.signer).due(now() + LATER)
    assert due == Due(open=(first,), unproven=(second,))


def test_checkpoints_of_a_former_key_and_unsigned_ones_count_when_the_operator_says_so(
    place: Place,
) -> None:
    former = place.signer
    first = closed(place, 1)
    place.signer = Ed25519PrivateKey.generate()
    second = closed(place, 1)
    due = Retention(place.directory, place.signer).due(now() + LATER)
    assert (names(due), due.unproven) == (second, tuple(first))
    trusting = Retention(place.directory, place.signer, [former.public_key()])
    assert names(trusting.due(now() + LATER)) == first + second


def test_unsigned_checkpoints_count_if_they_are_asked_for(place: Place) -> None:
    journal = place.journal()
    fill(journal, 1)
    journal.close()
    (name,) = (path.stem for path in place.paths())
    CheckpointLog(place.directory, None).append("checkpoint", [_final(place, name)])
    assert Retention(place.directory, place.signer).due(now() + LATER).unproven == (name,)
    for signer, unsigned in ((place.signer, True), (None, False)):
        retention = Retention(place.directory, signer, unsigned=unsigned)
        assert names(retention.due(now() + LATER)) == [name]


def _final(place: Place, name: str) -> Anchor:
    follower = Follower(place.directory / f"{name}{SUFFIX}")
    follower.advance()
    return follower.anchor(final=True)


def test_without_the_key_nothing_is_removed_from_a_signed_trail(place: Place) -> None:
    closed(place, 1)
    with pytest.raises(ConfigError, match=r"are signed with key [0-9a-f]{16}, .* --sign-with"):
        Retention(place.directory, None)


def test_a_removal_that_was_killed_is_finished_the_next_time(place: Place) -> None:
    first, _ = closed(place, 2)
    path = place.paths()[0]
    text = path.read_bytes()
    retention = Retention(place.directory, place.signer)
    retention.remove(retention.due(now() + LATER))
    path.write_bytes(text)  # noted as removed, and still there
    assert place.verify().problems == ()
    again = Retention(place.directory, place.signer)
    due = again.due(now() + LATER)
    assert names(due) == [first]
    again.remove(due)
    assert place.paths() == []
    assert place.verify().problems == ()


def test_the_keys_of_segments_that_are_sealed_to_nobody_go_with_them(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = Place(tmp_path_factory.mktemp("unsealed"), sealed=False)
    closed(place, 1)
    assert len(list(place.directory.glob("*.key"))) == 1
    retention = Retention(place.directory, place.signer)
    retention.remove(retention.due(now() + LATER))
    left = {path.name for path in place.directory.iterdir()}
    assert left == {"checkpoints.jsonl", ".leader"}


def test_a_gateway_that_runs_meanwhile_goes_on(place: Place) -> None:
    first, second = closed(place, 2)
    with place.led() as (journal, overseer):
        fill(journal, 1, "meanwhile")
        retention = Retention(place.directory, place.signer)
        retention.remove(retention.due(now() + LATER))
        overseer.tick()
        fill(journal, 1, "after")
        overseer.tick()
        assert overseer.failures == 0
    report = place.verify()
    assert report.problems == ()
    assert not {first, second} & {path.stem for path in place.paths()}
