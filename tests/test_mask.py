"""Masking is turned back exactly, in the reply to its own call only, however the reply is cut."""

import json
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from proxy.mask import Restorer, Vault, conversation_key

KINDS = ("email", "card", "person", "us-ssn", "phone")
VALUES = st.text(min_size=1, max_size=12)
PLACEHOLDER = re.compile(r"<[A-Z0-9_]+_[0-9]+_[a-z2-7]{6}>")


def in_pieces(restorer: Restorer, text: str, cuts: list[int]) -> str:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    fed = [restorer.feed(text[a:b]) for a, b in pairwise(places)]
    return "".join(fed) + restorer.finish()


def test_a_placeholder_shows_kind_and_number_and_survives_json() -> None:
    vault = Vault()
    mask = vault.mask("us-ssn", "078-05-1120")
    assert PLACEHOLDER.fullmatch(mask)
    assert mask.startswith("<US_SSN_1_")
    assert json.loads(json.dumps(mask)) == mask
    assert json.dumps(mask) == f'"{mask}"'


def test_the_same_value_has_the_same_placeholder_and_another_one_has_another() -> None:
    vault = Vault()
    first, second = vault.mask("email", "ann@corp.de"), vault.mask("email", "bob@corp.de")
    assert vault.mask("email", "ann@corp.de") == first
    assert first != second
    assert second.startswith("<EMAIL_2_")
    assert len(vault) == 2


def test_an_empty_value_is_no_value() -> None:
    vault = Vault()
    assert vault.mask("email", "") == ""
    assert len(vault) == 0


def test_two_calls_have_different_placeholders_and_a_kept_key_the_same() -> None:
    assert Vault().mask("email", "ann@corp.de") != Vault().mask("email", "ann@corp.de")
    one, two = Vault(key=b"conversation"), Vault(key=b"conversation")
    assert one.mask("email", "ann@corp.de") == two.mask("email", "ann@corp.de")


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), VALUES), max_size=8),
    st.lists(st.tuples(st.sampled_from(KINDS), VALUES), max_size=8),
    st.booleans(),
)
def test_with_a_key_a_value_is_masked_alike_whatever_else_the_call_holds(
    before: list[tuple[str, str]], after: list[tuple[str, str]], fakes: bool
) -> None:
    value = ("us-ssn", "a value that only this test has")
    one, two = Vault(key=b"k", fakes=fakes), Vault(key=b"k", fakes=fakes)
    first = [one.mask(*each) for each in [*before, value]][-1]
    second = two.mask(*value)
    assert first == second
    assert re.fullmatch(r"<US_SSN_[a-z2-7]{10}>", first)
    told = [*(one.mask(*each) for each in after), first]
    assert one.restore(" ".join(told)) == " ".join([*(text for _, text in after), value[1]])


def test_a_conversation_is_one_of_a_caller_and_of_a_name() -> None:
    keys = {
        conversation_key(secret, principal, name)
        for secret in (b"one", b"two")
        for principal, name in (("a", "bc"), ("ab", "c"), ("a", "b"), ('a", "b', "c"))
    }
    assert len(keys) == 8
    assert conversation_key(b"one", "a", "b") in keys


def test_a_vault_shows_nothing_of_what_it_holds() -> None:
    vault = Vault(key=b"k" * 32)
    vault.mask("email", "ann@corp.de")
    assert "ann" not in repr(vault)
    assert "kkk" not in repr(vault)


@given(
    st.lists(st.tuples(st.text(max_size=6), st.sampled_from(KINDS), VALUES)), st.text(max_size=6)
)
def test_restoring_is_the_inverse_of_masking(parts: list[tuple[str, str, str]], end: str) -> None:
    vault = Vault()
    text, masked = "", ""
    for before, kind, value in parts:
        text += before + value
        masked += before + vault.mask(kind, value)
    assert vault.restore(masked + end) == text + end


@given(
    st.lists(st.one_of(st.integers(0, 4), st.text("<EMAIL_1_2ab>x ", max_size=8)), max_size=8),
    st.lists(st.integers(0, 300), max_size=6),
    st.booleans(),
)
def test_every_cut_gives_what_the_whole_text_gives(
    parts: list[int | str], cuts: list[int], inside_json: bool
) -> None:
    vault = Vault(key=b"k")
    masks = [vault.mask(kind, f'"{kind}"\n') for kind in KINDS]
    text = "".join(masks[part] if isinstance(part, int) else part for part in parts)
    whole = vault.restore(text, inside_json=inside_json)
    assert in_pieces(vault.restorer(inside_json=inside_json), text, cuts) == whole


@given(
    st.lists(st.one_of(st.integers(0, 3), st.text("aA1. @-", max_size=3)), max_size=8),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_every_cut_of_a_text_with_fakes_gives_what_the_whole_text_gives(
    parts: list[int | str], cuts: list[int]
) -> None:
    vault = Vault(key=b"k", fakes=True)
    masks = [
        vault.mask("email", "ann@corp.de"),
        vault.mask("person", "Ann Lee"),
        vault.mask("card", "4111 1111 1111 1111"),
        vault.mask("person", "Bob Ray"),
    ]
    text = "".join(masks[part] if isinstance(part, int) else part for part in parts)
    assert in_pieces(vault.restorer(), text, cuts) == vault.restore(text)


@pytest.mark.parametrize(
    "altered",
    [
        lambda mask: mask.lower(),
        lambda mask: mask.replace("_1_", "_2_"),
        lambda mask: mask[:-2] + ("a" if mask[-2] != "a" else "b") + ">",
        lambda mask: mask.replace("<", "< "),
        lambda mask: mask.replace("<", "["),
        lambda mask: mask.replace("EMAIL", "PHONE"),
        lambda mask: mask[:-1],
        lambda mask: mask.replace("_", "-"),
    ],
)
def test_an_altered_placeholder_stays_as_it_is(altered: Callable[[str], str]) -> None:
    vault = Vault()
    changed = altered(vault.mask("email", "ann@corp.de"))
    assert vault.restore(f"to {changed} now") == f"to {changed} now"


@given(st.text("<>EMAIL_0123456789abcdefghijklmnopqrstuvwxyz", max_size=40))
def test_what_the_vault_did_not_make_is_never_restored(text: str) -> None:
    vault = Vault()
    vault.mask("email", "SECRET VALUE")
    assert vault.restore(text) == text


def test_a_placeholder_of_another_call_stays_as_it_is() -> None:
    mine, other = Vault(), Vault()
    mine.mask("email", "ann@corp.de")
    foreign = other.mask("email", "eve@evil.example")
    assert mine.restore(foreign) == foreign
    assert Vault().restore(foreign) == foreign


def test_text_flows_at_once_unless_it_may_become_a_placeholder() -> None:
    vault = Vault()
    mask = vault.mask("email", "ann@corp.de")
    restorer = vault.restorer()
    assert restorer.feed("plain text, a < b") == "plain text, a < b"
    assert restorer.feed(" and " + mask[:5]) == " and "
    assert restorer.held == 5
    assert restorer.feed(mask[5:-1]) == ""
    assert restorer.feed(">!") == "ann@corp.de!"
    assert restorer.held == 0
    assert restorer.feed("<EMAIX") == "<EMAIX"
    assert restorer.feed("<EMA") == ""
    assert restorer.finish() == "<EMA"


def test_a_vault_with_nothing_in_it_holds_nothing_back() -> None:
    restorer = Vault().restorer()
    assert restorer.feed("<EMAIL_1_") == "<EMAIL_1_"
    assert restorer.finish() == ""


@given(VALUES, st.lists(st.integers(0, 80), max_size=4))
def test_a_value_restored_in_tool_arguments_leaves_them_valid_json(
    value: str, cuts: list[int]
) -> None:
    vault = Vault()
    arguments = json.dumps({"to": vault.mask("person", value), "n": 1})
    restored = in_pieces(vault.restorer(inside_json=True), arguments, cuts)
    assert json.loads(restored) == {"to": value, "n": 1}


def test_overlapping_spans_are_masked_as_one_and_empty_ones_not_at_all() -> None:
    vault = Vault()
    text = "mail ann@corp.de or call"
    masked = vault.mask_spans(text, [(5, 16, "email"), (9, 16, "domain"), (3, 3, "none")])
    assert re.fullmatch(r"mail <EMAIL_1_\w{6}> or call", masked)
    assert vault.restore(masked) == text


def test_spans_that_touch_are_masked_apart() -> None:
    vault = Vault()
    masked = vault.mask_spans("abcd", [(0, 2, "one"), (2, 4, "two")])
    assert len(PLACEHOLDER.findall(masked)) == 2
    assert vault.restore(masked) == "abcd"


def test_a_fake_looks_like_what_it_stands_for() -> None:
    vault = Vault(fakes=True)
    assert re.fullmatch(
        r"[a-z]+\.[a-z]+[0-9]{4}@example\.(com|net|org)", vault.mask("email", "a@b.de")
    )
    fake = vault.mask("card", "4111-1111-1111-1111")
    assert re.fullmatch(r"4\d{3}-\d{4}-\d{4}-\d{4}", fake)
    assert luhn.is_valid(fake.replace("-", ""))
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", vault.mask("person", "Ann Lee"))
    assert PLACEHOLDER.fullmatch(vault.mask("us-ssn", "078-05-1120"))
    assert PLACEHOLDER.fullmatch(vault.mask("card", "no digits"))


@given(st.lists(st.tuples(st.sampled_from(("email", "person", "card")), VALUES), max_size=12))
def test_fakes_are_turned_back_too(parts: list[tuple[str, str]]) -> None:
    vault = Vault(fakes=True)
    masks = [vault.mask(kind, value) for kind, value in parts]
    assert vault.restore(" | ".join(masks)) == " | ".join(value for _, value in parts)


def test_a_fake_inside_a_longer_word_or_number_stays_as_it_is() -> None:
    vault = Vault(fakes=True)
    fake = vault.mask("card", "4111111111111111")
    for text in (f"1{fake}", f"{fake}1", f"x{fake}"):
        assert vault.restore(text) == text
        assert in_pieces(vault.restorer(), text, list(range(len(text)))) == text
    assert vault.restore(f"({fake}).") == "(4111111111111111)."


def test_a_fake_is_nothing_that_the_call_says_by_itself() -> None:
    said = Vault(key=b"k", fakes=True).mask("person", "Ann Lee")
    vault = Vault(key=b"k", fakes=True, avoid=[f"{said} wrote this"])
    assert vault.mask("person", "Ann Lee") != said


def test_when_no_fake_is_free_a_placeholder_stands_in() -> None:
    class Everything(str):
        __slots__ = ()

        def __contains__(self, other: object) -> bool:
            return True

    vault = Vault(fakes=True, avoid=[Everything("x")])
    assert PLACEHOLDER.fullmatch(vault.mask("person", "Ann Lee"))
