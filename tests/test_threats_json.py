"""What is JSON is passed exactly, what is none is refused, through the endpoint and in every place of a body."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.gateway import Gateway, gateway, refused
from tests.json_cases import BROKEN, OPEN, VALID

_BODY: Final = b'{"model":"m","prompt":"p","x":%b}'
#: Encodings in which no body is read.
_ENCODINGS: Final = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")


@pytest.fixture(scope="module")
def gate() -> Iterator[Gateway]:
    with gateway() as running:
        yield running


def test_the_corpus_is_large_and_of_one_mind() -> None:
    assert len(VALID) + len(BROKEN) + len(OPEN) >= 300
    for value in VALID.values():
        json.loads(value)
    assert not set(VALID.values()) & {*BROKEN.values(), *OPEN.values()}


def test_what_is_json_is_passed_exactly(gate: Gateway) -> None:
    for name, value in VALID.items():
        gate.upstream.requests.clear()
        assert gate.ask(_BODY % value).status == 200, name
        (sent,) = gate.upstream.requests
        # As text, because 1 and 1.0, and 0.0 and -0.0, are equal.
        assert repr(json.loads(sent.body)) == repr(json.loads(_BODY % value)), name


def test_what_is_no_json_is_400_and_goes_nowhere(gate: Gateway) -> None:
    gate.upstream.requests.clear()
    for value in BROKEN.values():
        for body in (_BODY % value, value):
            refused(gate.ask(body), 400)
    assert gate.upstream.requests == []


def test_what_readers_may_read_differently_is_400_and_goes_nowhere(gate: Gateway) -> None:
    gate.upstream.requests.clear()
    for value in OPEN.values():
        refused(gate.ask(_BODY % value), 400)
    assert gate.upstream.requests == []


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_no_other_encoding_is_guessed(gate: Gateway, encoding: str) -> None:
    gate.upstream.requests.clear()
    for value in list(VALID.values())[:20]:
        refused(gate.ask((_BODY % value).decode().encode(encoding)), 400)
    assert gate.upstream.requests == []
