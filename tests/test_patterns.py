"""Patterns of operators run in linear time, and those that cannot are refused with the way out."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.patterns import Globs, linear

patient = settings(deadline=None)  # the machine may be busy


def refusal(pattern: str) -> str:
    with pytest.raises(ConfigError) as caught:
        linear(pattern)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "text", "span"),
    [
        (r"\d{3}-\d{4}", "call 555-1234 now", (5, 13)),
        (r"(?i)secret", "a SECRET", (2, 8)),
        (r"(?P<who>\w+)@example", "é😀 ada@example", (3, 14)),
        (r"\bkey\b", "monkey key", (7, 10)),
        ("é+", "caféé", (3, 5)),
    ],
)
def test_a_pattern_finds_what_it_says_and_counts_characters(
    pattern: str, text: str, span: tuple[int, int]
) -> None:
    found = linear(pattern).search(text)
    assert found is not None
    assert found.span() == span


def test_patterns_are_used_like_those_of_re() -> None:
    pattern = linear(r"(?P<year>\d{4})-(\d\d)")
    assert [match.group("year") for match in pattern.finditer("2024-01 2025-02")] == [
        "2024",
        "2025",
    ]
    assert pattern.fullmatch("2024-01x") is None
    assert pattern.sub("*", "on 2024-01") == "on *"


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"(\w+\s?)*x", "([a-z]+)*=", "(.*)*,"])
def test_a_pattern_that_would_explode_elsewhere_reads_a_long_text(pattern: str) -> None:
    assert linear(pattern).search("a" * 100_000 + "!") is None


@pytest.mark.parametrize(
    ("pattern", "reason", "remedy"),
    [
        ("foo(?=bar)", "looks ahead", "foo(bar)"),
        ("foo(?!bar)", "looks ahead", "foo(?:[^b]|$)"),
        ("(?<=foo)bar", "looks behind", "(foo)bar"),
        ("(?<!foo)bar", "looks behind", r"\bbar"),
        (r"(a)\1", "refers back", "(?:aa|bb)"),
        (r"(?P<x>a)(?P=x)", "refers back", "(?:aa|bb)"),
        (r"(?<x>a)\k<x>", "refers back", "(?:aa|bb)"),
        ("a++", "possessively", "'+'"),
        ("a*+", "possessively", "'*'"),
        ("a{2}+", "possessively", "'{2}'"),
        ("(?>a|b)", "atomic group", "(?:...)"),
        ("(a)?(?(1)b|c)", "conditional group", "(?:a|b)"),
        ("a(?#note)", "comment", "beside the pattern"),
        ("(?x) a", "does not know '(?x'", "flags i, m, s, U"),
        (r"a\Z", r"\Z", r"\z"),
        (r"\h", r"\h", r"[ \t]"),
        (r"\R", r"\R", r"\r\n"),
        (r"\u00e9", "form RE2 does not know", r"\x{00E9}"),
        (r"\N{DASH}", "form RE2 does not know", r"\x{00E9}"),
        (r"\G", "does not know", "nearest class"),
        ("a{1001}", "more than 1000 times", "'*' or '+'"),
        ("((a{100}){100}){100}", "more than 1000 times", "'*' or '+'"),
        (r"((\pL{100}){10}|(\pN{90}){10}){1}" * 40, "too large", "split it"),
        ("[a", "missing ]", "escape the character"),
        ("(a", "missing )", "escape the character"),
        ("a**", "bad repetition", "escape the character"),
        ("\ud800", "half a character", "valid Unicode"),
    ],
)
def test_what_would_need_backtracking_is_refused_with_the_form_that_works(
    pattern: str, reason: str, remedy: str
) -> None:
    message = refusal(pattern)
    assert reason in message
    assert remedy in message


@pytest.mark.parametrize(
    "remedy", [r"\bbar", "(?:^|[^o])bar", "foo(?:[^b]|$)", r"\x{00E9}", r"a\z", r"[ \t]", "(?:a|b)"]
)
def test_the_forms_that_are_advised_work(remedy: str) -> None:
    linear(remedy)


def test_a_long_pattern_is_shown_in_part() -> None:
    assert len(refusal("x" * 10_000 + "(?=y)")) < 300


@pytest.mark.parametrize(
    ("patterns", "text", "matches"),
    [
        (["gpt-*"], "gpt-4", True),
        (["gpt-*"], "gpt-", True),
        (["gpt-*"], "my-gpt-4", False),
        (["gpt-?"], "gpt-4", True),
        (["gpt-?"], "gpt-40", False),
        (["gpt-?"], "gpt-", False),
        (["a", "b*"], "bc", True),
        (["a", "b"], "ab", False),
        (["*"], "", True),
        (["*"], "line\nbreak", True),
        (["?"], "\n", True),
        (["?"], "😀", True),
        (["a.c"], "abc", False),
        (["[ab]"], "a", False),
        (["[ab]"], "[ab]", True),
        (["a|b"], "a", False),
        ([r"\d"], "1", False),
        ([r"\d"], r"\d", True),
        (["A"], "a", False),
        ([""], "", True),
        ([], "", False),
        ([], "a", False),
        (["a"], "a\n", False),
        (["a{2}"], "aa", False),
        (["x y-z#&~"], "x y-z#&~", True),
    ],
)
def test_globs_know_two_wildcards_and_match_the_whole_name(
    patterns: list[str], text: str, matches: bool
) -> None:
    assert Globs(patterns).match(text) is matches


alphabet = st.text("ab*?.\n[é", max_size=8)


@patient
@given(st.lists(alphabet, max_size=4), st.text("ab.\n[é", max_size=6))
def test_globs_agree_with_their_definition(patterns: list[str], text: str) -> None:
    def matches(glob: str) -> bool:
        wild = {"*": ".*", "?": "."}
        regex = "".join(wild.get(char, re.escape(char)) for char in glob)
        return re.fullmatch(regex, text, re.DOTALL) is not None

    assert Globs(patterns).match(text) == any(map(matches, patterns))


@patient
@given(st.text(max_size=20))
def test_a_name_without_wildcards_matches_itself(name: str) -> None:
    literal = name.replace("*", "").replace("?", "")
    assert Globs([literal]).match(literal)


def test_many_stars_stay_fast() -> None:
    assert not Globs(["*a" * 30 + "b"]).match("a" * 20_000)


def test_globs_show_their_patterns() -> None:
    assert repr(Globs(("a*", "b"))) == "Globs(['a*', 'b'])"


def test_a_glob_that_is_no_valid_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="half a character"):
        Globs(["\ud800"])
