"""A secret is seen nowhere but where it is revealed."""

import copy
import json
import logging
import pickle
import traceback

import msgspec
import pytest

from proxy.secret import MASK, Secret

TEXT = "sk-canary-4711"


def test_it_gives_its_text_only_when_asked() -> None:
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(TEXT)),
        str(Secret(TEXT)),
        f"{Secret(TEXT)}",
        f"{Secret(TEXT)!r:>40}",
        "%s %r" % (Secret(TEXT), Secret(TEXT)),  # noqa: UP031 - this way is tested too
        repr([Secret(TEXT)]),
        repr({"key": Secret(TEXT)}),
    ],
)
def test_no_way_of_printing_shows_it(shown: str) -> None:
    assert TEXT not in shown
    assert "***" in shown


def test_it_is_padded_like_any_text() -> None:
    assert f"{Secret(TEXT):>20}" == MASK.rjust(20)


def test_it_is_not_logged_and_not_in_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(TEXT)
    logging.getLogger("test").warning("key %s", secret)
    with pytest.raises(ValueError) as caught:
        raise ValueError(secret)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert TEXT not in caplog.text + "".join(shown).replace(f'TEXT = "{TEXT}"', "")


def test_it_is_not_serialised() -> None:
    with pytest.raises(TypeError):
        json.dumps(Secret(TEXT))
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": Secret(TEXT)})
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps(Secret(TEXT))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(TEXT))


def test_it_has_no_attributes_to_dump() -> None:
    assert not hasattr(Secret(TEXT), "__dict__")


def test_equal_secrets_are_equal_and_nothing_else_is() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("é") == Secret("é")
    assert Secret("a") != "a"


def test_it_cannot_be_hashed() -> None:
    with pytest.raises(TypeError):
        hash(Secret("a"))


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("x")
