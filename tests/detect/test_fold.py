import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.detect.fold import fold

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("４１１１　－Ａｂ＠ｃ．ｄ", "4111 -Ab@c.d"),
        ("s\u200bk\u00ad-\u2060a\ufe0fb\u0301\U000e0041", "sk-ab"),
        ("ѕk-аЬсԁе", "sk-abcde"),
        ("𝐀𝟘𝓫ⓒ⒈①⑩❶🄰🅐🅰🇦", "A0bc1.1101AAAA"),
        ("٤٢४५", "4245"),
        ("éÅﬁ", "eAfi"),
        ("‐–—“‘․∕：＿", "---\"'./:_"),
        ("日本가", "日本가"),
        ("ᴀᴋɪᴀ", "AKIA"),
    ],
)
def test_what_reads_like_ascii_becomes_ascii(written: str, read: str) -> None:
    assert fold(written).text == read


def test_ascii_is_left_alone() -> None:
    assert fold("a B\n1") == ("a B\n1", range(5))


@given(TEXTS, TEXTS)
def test_a_text_cut_anywhere_folds_to_the_same(left: str, right: str) -> None:
    whole = fold(left + right)
    assert whole.text == fold(left).text + fold(right).text
    assert list(whole.offsets) == [
        *fold(left).offsets,
        *(len(left) + at for at in fold(right).offsets),
    ]


@given(TEXTS)
def test_every_folded_character_knows_the_character_it_was_made_from(text: str) -> None:
    folded = fold(text)
    assert len(folded.text) == len(folded.offsets)
    assert list(folded.offsets) == sorted(folded.offsets)
    for start in range(len(folded.text)):
        first, last = folded.source(start, start + 1)
        assert last == first + 1
        assert folded.text[start] in fold(text[first:last]).text
    gone = set(range(len(text))) - set(folded.offsets)
    assert all(unicodedata.category(text[at]) in {"Cf", "Mn", "Me", "Lo"} for at in gone)


@given(TEXTS)
def test_folding_twice_changes_nothing_more(text: str) -> None:
    once = fold(text).text
    assert fold(once).text == once
