import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edits import Edit, edited, is_json
from proxy.mask import Vault


def edit(start: int, end: int, kind: str, *, mask: bool = False) -> Edit:
    return Edit(start, end, kind, mask)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], "abcdefgh"),
        ([(0, 8, "k")], "[K]"),
        ([(0, 2, "a"), (2, 4, "b")], "[A][B]efgh"),
        ([(1, 5, "a"), (3, 7, "b")], "a[A]h"),
        ([(3, 7, "b"), (1, 5, "a")], "a[A]h"),
        ([(1, 7, "a"), (3, 5, "b")], "a[A]h"),
        ([(7, 8, "z"), (0, 1, "y")], "[Y]bcdefg[Z]"),
    ],
)
def test_every_span_is_replaced_and_those_that_overlap_become_one(
    spans: list[tuple[int, int, str]], expected: str
) -> None:
    assert edited("abcdefgh", [edit(*span) for span in spans], None) == expected


def test_without_a_vault_nothing_is_masked() -> None:
    assert edited("ab", [edit(0, 1, "k", mask=True)], None) == "[K]b"


def test_what_is_to_be_redacted_for_good_is_not_masked_with_its_surroundings() -> None:
    vault = Vault()
    text = edited("abcdef", [edit(0, 4, "a", mask=True), edit(2, 6, "b")], vault)
    assert (text, len(vault)) == ("[A]", 0)


@given(
    st.text(max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4)
)
def test_restoring_is_the_inverse_of_masking(text: str, places: list[tuple[int, int]]) -> None:
    edits = [
        edit(min(pair), max(pair), "k", mask=True)
        for pair in places
        if max(pair) <= len(text) and pair[0] != pair[1]
    ]
    vault = Vault()
    assert vault.restore(edited(text, edits, vault)) == text


@given(st.text(max_size=20), st.data())
def test_a_mask_in_json_stands_for_what_is_meant_there(value: str, data: Any) -> None:
    source = json.dumps({"a": value})
    start = data.draw(st.integers(7, len(source) - 2))
    end = data.draw(st.integers(start, len(source) - 2))
    vault = Vault()
    masked = edited(
        source, [edit(start, end, "k", mask=True)] * (end > start), vault, inside_json=True
    )
    whole = edited(
        source, [edit(7, len(source) - 2, "k", mask=True)] * bool(value), vault, inside_json=True
    )
    assert json.loads(vault.restore(whole, inside_json=True)) == {"a": value}
    assert vault.restore(json.loads(whole)["a"]) == value
    json.loads(vault.restore(masked, inside_json=True)) if "\\" not in source else None


def test_the_arguments_of_a_tool_are_json() -> None:
    assert is_json(("choices", 0, "message", "tool_calls", 0, "function", "arguments"))
    assert not is_json(("choices", 0, "text"))
    assert not is_json(())
