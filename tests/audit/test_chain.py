"""A mac is made with a key that is gone afterwards, and holds everything before it."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.chain import Chain, commitment

KEY = bytes(range(32))
LINES = st.lists(st.binary(max_size=40), min_size=1, max_size=20)


def sealed(lines: list[bytes]) -> list[str]:
    chain = Chain(KEY)
    return [chain.seal(line).hex() for line in lines]


@given(LINES)
def test_what_was_sealed_checks(lines: list[bytes]) -> None:
    chain = Chain(KEY)
    assert all(chain.check(line, mac) for line, mac in zip(lines, sealed(lines), strict=True))


@given(LINES, st.data())
def test_another_line_does_not_check_nor_does_what_follows_a_missing_one(
    lines: list[bytes], data: st.DataObject
) -> None:
    macs = sealed(lines)
    place = data.draw(st.integers(0, len(lines) - 1))
    chain = Chain(KEY)
    for line, mac in zip(lines[:place], macs[:place], strict=True):
        assert chain.check(line, mac)
    assert not chain.check(lines[place] + b"x", macs[place])
    if place + 1 < len(lines):
        assert not chain.check(lines[place + 1], macs[place + 1])


def test_a_record_made_anew_with_a_later_key_is_told() -> None:
    lines = [b"one", b"two", b"three", b"four"]
    intruder = Chain(KEY)
    for line in lines:
        intruder.seal(line)
    chain = Chain(KEY)
    chain.seal(b"one")
    intruder.mac = chain.mac
    forged = intruder.seal(b"forged").hex()
    assert not chain.check(b"forged", forged)
    assert chain.later_key(b"forged", forged, most=10) == 3
    assert chain.later_key(b"forged", forged, most=2) is None
    assert chain.later_key(b"other", forged, most=10) is None


def test_the_key_is_overwritten_at_every_step_and_at_the_end() -> None:
    chain = Chain(KEY)
    held = chain._key
    chain.seal(b"one")
    assert held is chain._key
    assert bytes(held) != KEY
    before = bytes(held)
    chain.wipe()
    assert bytes(held) != before
    assert str(KEY) not in repr(chain)


def test_a_commitment_tells_keys_apart_and_is_not_the_key() -> None:
    assert commitment(KEY) != commitment(KEY[::-1])
    assert KEY.hex() not in commitment(KEY)
