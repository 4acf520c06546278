import random
import re
import time
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.detect.detector import Detector
from proxy.detect.engine import Engine
from tests.detect.material import DETECTORS, FRAGMENTS, LETTERS, cut, streamed, text

ENGINE = Engine(DETECTORS)
TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(alphabet=LETTERS, max_size=5)), max_size=12
).map("".join)
RANDOM_TEXTS = 20_000
SECONDS = 25.0  # on a slow machine the random texts end here, and say so

SECRETS = [
    "x ghp_16C7e42F292c y",
    "aws AKIALALEME.",
    "mail bob.x+y@mail.example.org, please",
    "card 4539 1488 0343 6467\n",
    "password: 'hunter2x' and",
    "Authorization: Bearer abcDEF12==\n",
    "postgres://postgres:p4ssw0rd@host/db",
    "ssn １２３－45-6\u200b789!",
    "-----BEGIN KEY-----\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END----- rest",
    "jwt eyJabc.eyJdef.sig_1, next",
    "number is 12345; key k A0F3",
    "AAAAAÀAAAA AAA",
]


def test_twenty_thousand_random_texts_give_the_same_streamed_as_whole() -> None:
    maker = random.Random(20_000)
    end = time.monotonic() + SECONDS
    for count in range(RANDOM_TEXTS):
        if time.monotonic() > end:
            assert count > RANDOM_TEXTS / 20, "far too slow"
            break
        whole = text(maker)
        pieces = cut(whole, maker)
        assert streamed(ENGINE, pieces) == (whole, ENGINE.find(whole)), pieces


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_every_way_to_cut_gives_what_the_whole_text_gives(whole: str, maker: random.Random) -> None:
    expected = (whole, ENGINE.find(whole))
    assert streamed(ENGINE, whole) == expected
    assert streamed(ENGINE, cut(whole, maker)) == expected


@pytest.mark.parametrize("whole", SECRETS)
def test_every_single_and_double_cut_of_a_secret_gives_the_same(whole: str) -> None:
    expected = (whole, ENGINE.find(whole))
    assert expected[1]
    for first, second in combinations(range(len(whole) + 1), 2):
        pieces = [whole[:first], whole[first:second], whole[second:]]
        assert streamed(ENGINE, pieces) == expected, pieces


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_what_was_released_is_right_whatever_comes_next(known: str, more: str) -> None:
    stream = ENGINE.stream()
    released = [piece for char in known for piece in stream.feed(char)]
    length = sum(len(piece.text) for piece in released)
    spans = [span for piece in released for span in piece.spans]
    for whole in (known, known + more):
        assert [span for span in ENGINE.find(whole) if span.start < length] == spans


def released(engine: Engine, whole: str) -> str:
    stream = engine.stream()
    return "".join(piece.text for char in whole for piece in stream.feed(char))


def test_a_context_flows_and_what_follows_is_held() -> None:
    engine = Engine([Detector.regex("password", r"\S{8,20}", context=r"(?i:password): ")])
    assert released(engine, "the Password: ") == "the Password: "
    assert released(engine, "the Password: hunter2") == "the Password: "
    assert released(engine, "the Password: short one") == "the Password: short one"


def test_a_longer_context_that_could_also_be_a_shorter_one_holds_what_the_shorter_needs() -> None:
    engine = Engine([Detector.regex("split", r"bcd|cef", context=r"\b(?:ab|a)")])
    assert released(engine, "ab") == "a"
    assert released(engine, "abc") == "a"
    assert released(engine, "abx") == "abx"


def test_a_finding_that_is_complete_before_another_context_ends_is_held_all_the_same() -> None:
    slow = Detector.regex("slow", r"!{3}", context=r"\bslow.{0,20};")
    fast = Detector.regex("fast", r"[0-9]{4}", context=r"id ")
    engine = Engine([slow, fast])
    assert streamed(engine, "slow id 1234 more")[1] == [(8, 12, 1)]
    assert released(engine, "slow id 1234 more") == "slow id "


def test_a_complete_finding_of_fixed_length_is_released_at_once() -> None:
    engine = Engine([Detector.regex("fixed", "tok[a-f]{4}")])
    stream = engine.stream()
    assert stream.feed("a tokabc")[0].text == "a "
    assert stream.held == 6
    assert stream.feed("d")[0].spans == ((2, 9, 0),)
    assert stream.held == 0


def test_prose_without_a_beginning_of_anything_is_not_held() -> None:
    engine = Engine([Detector.regex("github", r"\bghp_\w{36}\b")])
    stream = engine.stream()
    assert [piece.text for piece in stream.feed("Nothing here")] == ["Nothing here"]
    assert stream.held == 0


def test_opened_content_is_withheld_until_it_is_closed() -> None:
    engine = Engine([Detector(kind="pem", opens="-----BEGIN", closes="END-----")])
    assert released(engine, "key: -----BEGIN abc def") == "key: "
    assert streamed(engine, "key: -----BEGIN abc END----- x") == (
        "key: -----BEGIN abc END----- x",
        [(5, 28, 0)],
    )


def test_opened_content_past_its_bound_counts_as_found_and_is_released_in_pieces() -> None:
    engine = Engine([Detector(kind="pem", opens="BEGIN", closes="END", most=10)])
    whole = "a BEGIN" + "x" * 30
    stream = engine.stream()
    pieces = [piece for char in whole for piece in stream.feed(char)]
    assert all(piece.spans for piece in pieces[2:])
    assert stream.held <= 10
    spans = [(2, 12, 0), (12, 22, 0), (22, 32, 0), (32, 37, 0)]
    assert streamed(engine, whole) == (whole, spans)
    assert engine.find(whole) == spans


def test_content_that_is_never_closed_is_found_to_the_end() -> None:
    engine = Engine([Detector(kind="pem", opens="BEGIN", closes="END")])
    assert engine.find("a BEGIN bc") == [(2, 10, 0)]
    assert streamed(engine, "a BEGIN bc")[1] == [(2, 10, 0)]


def test_a_tail_ends_opened_content_and_is_not_part_of_it() -> None:
    engine = Engine([Detector(kind="jwt", opens=r"\beyJ\w{2,9}\.", tail=r"[^\w.]", context="jwt=")])
    assert engine.find("jwt=eyJab.cd.ef; x") == [(4, 15, 0)]
    assert released(engine, "jwt=eyJab.cd.ef; x") == "jwt=eyJab.cd.ef; x"


def test_findings_that_overlap_leave_together() -> None:
    engine = Engine(
        [Detector.regex("a", "abcd"), Detector.regex("b", "cdefgh"), Detector.regex("c", "ghij?")]
    )
    stream = engine.stream()
    pieces = [piece for char in "xabcdefghi." for piece in stream.feed(char)]
    assert [piece.text for piece in pieces] == ["x", "abcdefghi."]
    assert [span.detector for span in pieces[1].spans] == [0, 1, 2]


def test_a_stream_asks_the_chosen_detectors_only() -> None:
    engine = Engine([Detector.regex("a", "aaa"), Detector.regex("b", "bbb")])
    stream = engine.stream([1])
    pieces = [*stream.feed("aaa bbb"), *stream.finish()]
    assert [span for piece in pieces for span in piece.spans] == [(4, 7, 1)]
    assert engine.find("aaa bbb", [1]) == [(4, 7, 1)]
    assert engine.find("aaa bbb", []) == []
    assert engine.stream([]).feed("aaa")[0].text == "aaa"


def test_an_empty_piece_changes_nothing() -> None:
    stream = ENGINE.stream()
    assert stream.feed("") == []
    assert stream.finish() == []


def test_a_long_stream_keeps_its_boundaries_and_bounds_its_memory() -> None:
    engine = Engine(
        [
            Detector.regex("word", r"\bend\b"),
            Detector.regex("key", r"\d{4}", context="pin ", fold=True),
            Detector(kind="open", opens="<<", closes=">>"),
            Detector.regex("start", r"\Aend"),
        ]
    )
    whole = "end bend é pin １234 end <<" + "é" * 900 + ">> pin 12 end " * 300
    assert streamed(engine, re.findall("(?s).{1,7}", whole)) == (whole, engine.find(whole))
    stream = engine.stream()
    for _ in range(2000):
        stream.feed("ébend ")
    assert len(stream._readings._lanes[0]._text) < 1000
