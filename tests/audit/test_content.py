"""Texts that only the auditor can read."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import ContentTable, keys
from proxy.audit.content import Keeper, Opened, by_fingerprint, opened
from proxy.audit.envelope import EnvelopeError
from proxy.errors import ConfigError
from tests.audit.material import Place

SECRET = b'{"prompt":"the password is swordfish"}'


def keeper(place: Place, **changes: object) -> Keeper:
    to = str(place.root / "keys" / keys.SEALING_PUBLIC)
    fields = {"to": to, "request": True, "reply": True, **changes}
    return Keeper(ContentTable(**fields))  # type: ignore[arg-type]


def test_who_has_the_private_key_reads_what_was_kept(place: Place) -> None:
    seal = keeper(place)
    request, reply = seal.sealed("c1", "request", SECRET), seal.sealed("c1", "reply", b"yes", 9)
    fields = {"content": {**request["content"], **reply["content"]}}
    assert "swordfish" not in json.dumps(fields)
    own = by_fingerprint([place.private])
    assert list(opened(fields, "c1", own)) == [
        Opened(side="request", text=SECRET, bytes=len(SECRET)),
        Opened(side="reply", text=b"yes", bytes=9),
    ]


def test_only_the_sides_that_are_configured_are_kept(place: Place) -> None:
    seal = keeper(place, reply=False)
    assert seal.wants("request")
    assert not seal.wants("reply")
    assert seal.sealed("c1", "reply", SECRET) == {}


def test_long_texts_are_cut_and_say_so(place: Place) -> None:
    fields = keeper(place, most_bytes=10).sealed("c1", "request", SECRET)
    (text,) = opened(fields, "c1", by_fingerprint([place.private]))
    assert (text.text, text.bytes, text.is_whole) == (SECRET[:10], len(SECRET), False)


@given(text=st.binary(max_size=300), id_=st.text(max_size=20))
def test_every_text_comes_back_as_it_was(
    text: bytes, id_: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = _place(tmp_path_factory)
    (found,) = opened(
        keeper(place).sealed(id_, "reply", text), id_, by_fingerprint([place.private])
    )
    assert (found.text, found.is_whole) == (text, True)


_places: list[Place] = []


def _place(factory: pytest.TempPathFactory) -> Place:
    if not _places:
        _places.append(Place(factory.mktemp("content")))
    return _places[0]


def test_a_text_opens_nowhere_else(place: Place) -> None:
    own = by_fingerprint([place.private])
    kept = keeper(place).sealed("c1", "request", SECRET)
    with pytest.raises(EnvelopeError, match="belongs to something else"):
        list(opened(kept, "c2", own))
    with pytest.raises(EnvelopeError, match="belongs to something else"):
        list(opened({"content": {"reply": kept["content"]["request"]}}, "c1", own))


def test_another_key_does_not_open_it_and_is_named(place: Place) -> None:
    kept = keeper(place).sealed("c1", "request", SECRET)
    other = by_fingerprint([X25519PrivateKey.generate()])
    with pytest.raises(EnvelopeError, match=f"which is none of those given: {next(iter(other))}"):
        list(opened(kept, "c1", other))
    assert len(list(opened(kept, "c1", {**other, **by_fingerprint([place.private])}))) == 1


@pytest.mark.parametrize(
    "fields", [{}, {"content": None}, {"content": []}, {"content": {"request": 1}}]
)
def test_where_nothing_was_kept_there_is_nothing(place: Place, fields: dict[str, object]) -> None:
    assert list(opened(fields, "c1", by_fingerprint([place.private]))) == []


def test_a_key_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    table = ContentTable(to=str(tmp_path / "none.pem"), request=True)
    with pytest.raises(ConfigError, match=r"audit\.content\.to = .*No such file"):
        Keeper(table)
