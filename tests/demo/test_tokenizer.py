import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.models import text_model
from proxy.demo.tokenizer import END, END_OF_TEXT

TOKENIZER = text_model().tokenizer


@given(st.text())
def test_every_text_survives_the_way_to_tokens_and_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_even_a_lone_surrogate_is_a_token() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ud800b"


def test_common_words_are_one_token_and_rare_ones_a_few() -> None:
    assert len(TOKENIZER.encode(" keeper of the harbour")) == 4
    assert 1 < len(TOKENIZER.encode(" tokenization")) < 8


def test_the_end_of_text_is_one_token() -> None:
    assert TOKENIZER.encode(END_OF_TEXT) == (END,)


@pytest.mark.parametrize("number", [-1, TOKENIZER.size])
def test_a_number_beyond_the_vocabulary_is_no_token(number: int) -> None:
    with pytest.raises(ValueError, match="there is no token"):
        TOKENIZER.text(number)
