from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.pieces import Piece, cut, interleaved, joined
from proxy.demo.textmodel import Step

WORDS = st.lists(st.text("ab", min_size=1, max_size=3), max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def steps(words: list[str]) -> Iterator[Step]:
    return (Step(number, word, -1.0) for number, word in enumerate(words))


@given(WORDS, STOPS)
def test_text_ends_right_before_the_first_stop_string(words: list[str], stops: list[str]) -> None:
    whole = "".join(words)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    found = joined(cut(steps(words), stops, 100))
    shown = found.text
    assert not any(stop in shown for stop in stops)
    assert whole.startswith(shown)
    assert (shown == whole) == (not ends)
    assert found.finish == "stop"


@given(WORDS, STOPS)
def test_no_piece_shows_what_a_later_one_would_take_back(
    words: list[str], stops: list[str]
) -> None:
    *pieces, last = cut(steps(words), stops, 100)
    assert last.text == ""
    assert not any(piece.finish for piece in pieces)
    assert all(piece.text for piece in pieces[:-1])


def test_every_token_leaves_at_once_when_there_is_nothing_to_wait_for() -> None:
    pieces = list(cut(steps(["a", "b", "c"]), (), 3))
    assert [piece.text for piece in pieces] == ["a", "b", "c", ""]
    assert pieces[-1].finish == "length"


def test_a_token_across_a_stop_string_is_listed_whole_and_paid_for() -> None:
    found = joined(cut(steps(["go", " sto", "p it"]), ["top"], 9))
    assert found.text == "go s"
    assert [step.text for step in found.steps] == ["go", " sto"]
    assert found.spent == 3


def test_text_that_only_looked_like_a_stop_string_is_given_back() -> None:
    assert joined(cut(steps(["a", "a"]), ["aaa"], 9)).text == "aa"


def test_choices_take_turns() -> None:
    choices = [iter([Piece("a"), Piece("b")]), iter([Piece("c")])]
    turns = [(index, piece.text) for index, piece in interleaved(choices, 0.001)]
    assert turns == [(0, "a"), (1, "c"), (0, "b")]
