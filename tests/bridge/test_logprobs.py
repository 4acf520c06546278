"""Log-probabilities of chats in the form of completions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.logprobs import Logprobs, mean
from tests.bridge.chats import scored, token


def test_tokens_their_chances_alternatives_and_offsets() -> None:
    given = scored(token(" a", -1.5, (" b", -1.0), (" a", -1.5)), token("é", -2, ("x", -3.0)))
    assert Logprobs().legacy(given) == {
        "tokens": [" a", "é"],
        "token_logprobs": [-1.5, -2],
        "top_logprobs": [{" b": -1.0, " a": -1.5}, {"x": -3.0, "é": -2}],
        "text_offset": [0, 2],
    }


def test_a_token_that_is_a_part_of_a_character_is_told_by_its_bytes() -> None:
    raw = "é".encode()
    cut = [token("?", -1, bytes=list(raw[:1])), token("?", -2, bytes=list(raw[1:]))]
    found = Logprobs().legacy(scored(*cut, token("!", -3, bytes=[33])))
    assert found is not None
    assert found["tokens"] == [r"bytes:\xc3", r"bytes:\xa9", "!"]
    assert found["text_offset"] == [0, 0, 1]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=8), st.data())
def test_offsets_are_the_same_wherever_a_stream_is_cut(
    texts: list[str], data: st.DataObject
) -> None:
    tokens = [token(text, -1, bytes=list(text.encode())) for text in texts]
    whole = Logprobs().legacy(scored(*tokens))
    at = data.draw(st.integers(0, len(tokens)))
    streamed = Logprobs()
    parts = [streamed.legacy(scored(*piece)) for piece in (tokens[:at], tokens[at:])]
    assert whole is not None
    for name, values in whole.items():
        assert [value for part in parts if part for value in part[name]] == values
    joined = "".join(texts)
    ends = [*whole["text_offset"], len(joined)][1:]
    cuts = zip(whole["text_offset"], ends, strict=True)
    assert [joined[start:end] for start, end in cuts] == texts


@pytest.mark.parametrize("none", [None, "x", {}, {"content": None}, {"tokens": []}])
def test_where_an_upstream_gives_none_there_are_none(none: object) -> None:
    assert Logprobs().legacy(none) is None
    assert mean(none) is None


def test_what_a_server_leaves_out_breaks_nothing() -> None:
    found = Logprobs().legacy({"content": [{}, "x", {"token": 5, "bytes": [400]}]})
    assert found == {
        "tokens": ["", ""],
        "token_logprobs": [None, None],
        "top_logprobs": [{"": None}, {"": None}],
        "text_offset": [0, 0],
    }


def test_the_mean_is_over_all_tokens() -> None:
    assert mean(scored(token("a", -1), token("b", -3))) == -2
    assert mean(scored()) == 0
