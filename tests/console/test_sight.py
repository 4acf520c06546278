"""Whatever a text holds, it is seen and does nothing."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from proxy.console.sight import clock, count, duration, pretty, seen, shown, size


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("a\nb", "a\\u000ab"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("שלום naïve 你好", "שלום naïve 你好"),
    ],
)
def test_what_would_not_be_seen_is_written_out(text: str, visible: str) -> None:
    assert seen(text) == visible


@given(st.text())
def test_nothing_invisible_is_left_in_any_text(text: str) -> None:
    for char in seen(text, 50):
        assert unicodedata.category(char)[0] != "C"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert seen("x" * 1_000_000, 10) == "xxxxxxxxxx… (+999,990 characters)"
    assert len(shown("x" * 1_000_000)) < 21_000


def test_only_our_own_markup_passes_as_it_is() -> None:
    assert shown(Markup("<b>")) == Markup("<b>")
    assert not isinstance(shown("<b>"), Markup)
    assert shown(None) == "–"


def test_a_record_is_shown_as_ascii_that_no_browser_acts_upon() -> None:
    text = pretty({"a": "<script>\u202e\x7f", "b": ["x" * 40_000]})
    assert text.isascii() or "…" in text
    assert "<script>" not in text
    assert "\\u202e\\u007f" in text
    assert len(text) < 30_000


def test_figures_are_for_people() -> None:
    assert [count(n) for n in (0, 1234, 123_456, 2_500_000, 3.1e9)] == [
        "0", "1,234", "123 k", "2.5 M", "3.1 G",
    ]  # fmt: skip
    assert [duration(n) for n in (None, 0.00084, 0.0123, 0.5, 4.5, 125)] == [
        "–", "840 µs", "12.3 ms", "500 ms", "4.50 s", "2 min 5 s",
    ]  # fmt: skip
    assert [size(n) for n in (None, 12, 2048, 5 << 20, 3 << 40)] == [
        "–", "12 B", "2.0 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert clock(0) == "1970-01-01 00:00:00"
    assert clock(1e300) == clock(None) == "–"
