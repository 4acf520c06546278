"""Every text of a body is found, and can be changed where it stands."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.frozen import freeze, thaw
from proxy.texts import Text, place_name, replace, texts

patient = settings(deadline=None)  # the machine may be busy

names = st.text(max_size=5)
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
bodies = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
)


def every_text(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in [key, *every_text(item)]]
    if isinstance(value, list):
        return [text for item in value for text in every_text(item)]
    return []


@patient
@given(bodies)
def test_every_string_and_every_key_is_found_in_document_order(body: Any) -> None:
    assert [text.value for text in texts(body)] == every_text(body)


@patient
@given(bodies)
def test_frozen_and_plain_bodies_give_the_same_texts(body: Any) -> None:
    assert list(texts(freeze(body))) == list(texts(body))


@patient
@given(bodies)
def test_the_place_of_a_text_leads_to_it(body: Any) -> None:
    for text in texts(body):
        value: Any = body
        for step in text.place:
            value = value[step]
        assert text.place[-1] == text.value if text.is_key else value == text.value


def test_keys_come_before_their_values_and_say_that_they_are_keys() -> None:
    assert list(texts({"a": ["x", 1, {"b": "y"}]})) == [
        Text(("a",), "a", True),
        Text(("a", 0), "x"),
        Text(("a", 2, "b"), "b", True),
        Text(("a", 2, "b"), "y"),
    ]


def test_nesting_beyond_any_recursion_limit_is_walked() -> None:
    body: Any = "deep"
    for _ in range(5_000):
        body = [body]
    assert [text.value for text in texts(body)] == ["deep"]


def test_a_body_that_is_one_string_has_one_text_at_the_empty_place() -> None:
    assert list(texts("x")) == [Text((), "x")]
    assert list(texts(7)) == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((), ""),
        (("prompt", 0), "prompt[0]"),
        (("messages", 1, "content", 0, "text"), "messages[1].content[0].text"),
        (("a", "b"), "a.b"),
        ((2, "a"), "[2].a"),
    ],
)
def test_places_are_named_like_params_of_the_api(place: tuple[str | int, ...], name: str) -> None:
    assert place_name(place) == name


@patient
@given(bodies)
def test_changing_every_string_leaves_the_shape_and_the_original_alone(body: Any) -> None:
    before = thaw(body)
    changes = {text.place: text.value + "!" for text in texts(body) if not text.is_key}
    after = replace(body, changes)
    assert body == before
    assert {t.place: t.value for t in texts(after) if not t.is_key} == changes
    assert [t.place for t in texts(after)] == [t.place for t in texts(body)]


def test_only_the_way_to_a_change_is_copied() -> None:
    body = freeze({"a": [{"x": "1"}], "b": {"y": "2"}})
    after = replace(body, {("a", 0, "x"): "new"})
    assert after == {"a": [{"x": "new"}], "b": {"y": "2"}}
    assert after["b"] is body["b"]
    assert freeze(after) == after


def test_a_body_that_is_a_string_can_be_changed() -> None:
    assert replace("old", {(): "new"}) == "new"


def test_members_are_renamed_in_their_order_and_below_changed_ones() -> None:
    body = {"a": {"secret": {"inner": "v"}, "z": 1}, "b": 2}
    after = replace(
        body,
        {("a", "secret", "inner"): "w"},
        keys={("a",): "A", ("a", "secret"): "S", ("a", "secret", "inner"): "I"},
    )
    assert after == {"A": {"S": {"I": "w"}, "z": 1}, "b": 2}
    assert list(after) == ["A", "b"]


def test_renaming_to_a_taken_name_loses_no_member() -> None:
    body = {"x": 1, "y": 2, "[hidden]": 3, "[hidden]#2": 4}
    after = replace(body, {}, keys={("x",): "[hidden]", ("y",): "[hidden]"})
    assert sorted(after.values()) == [1, 2, 3, 4]
    assert after == {"[hidden]#3": 1, "[hidden]#4": 2, "[hidden]": 3, "[hidden]#2": 4}


@pytest.mark.parametrize(
    "place",
    [("n",), ("none",), ("l", 5), ("l", "x"), ("l", -1), ("s", 0), (), ("o", 0), ("n", "x", "y")],
)
def test_a_place_without_a_string_is_an_error(place: tuple[str | int, ...]) -> None:
    with pytest.raises(KeyError):
        replace({"n": 1, "l": ["x"], "s": "text", "o": {"k": "v"}}, {place: "new"})


@pytest.mark.parametrize("place", [(), ("none",), ("l", 7)])
def test_a_member_that_is_not_there_cannot_be_renamed(place: tuple[str | int, ...]) -> None:
    with pytest.raises(KeyError):
        replace({"l": ["x"]}, {}, keys={place: "new"})
