"""A frozen value reads like the plain one and refuses every edit."""

import copy
import json
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.frozen import FrozenDict, FrozenList, freeze, frozen_pairs, thaw

patient = settings(deadline=None)  # the machine may be busy

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def is_frozen(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is FrozenDict and all(map(is_frozen, value.values()))
    if isinstance(value, list):
        return type(value) is FrozenList and all(map(is_frozen, value))
    return True


@patient
@given(values)
def test_freezing_goes_all_the_way_down_and_changes_no_value(value: Any) -> None:
    frozen = freeze(value)
    assert is_frozen(frozen)
    assert frozen == value
    assert json.dumps(frozen) == json.dumps(value)
    assert msgspec.json.encode(frozen) == msgspec.json.encode(value)


@patient
@given(values)
def test_thawing_gives_an_editable_copy(value: Any) -> None:
    thawed = thaw(freeze(value))
    assert thawed == value
    assert not is_frozen({"a": thawed}["a"]) or not isinstance(thawed, dict | list)


DICT_EDITS: list[Callable[[Any], Any]] = [
    lambda d: d.__setitem__("a", 1), lambda d: d.__delitem__("a"), lambda d: d.clear(),
    lambda d: d.pop("a"), lambda d: d.popitem(), lambda d: d.setdefault("z", 1),
    lambda d: d.update(a=2), lambda d: d.__ior__({"a": 2}), lambda d: setattr(d, "x", 1),
]  # fmt: skip
LIST_EDITS: list[Callable[[Any], Any]] = [
    lambda a: a.__setitem__(0, 1), lambda a: a.__delitem__(0), lambda a: a.append(1),
    lambda a: a.extend([1]), lambda a: a.insert(0, 1), lambda a: a.pop(), lambda a: a.remove(1),
    lambda a: a.reverse(), lambda a: a.sort(), lambda a: a.clear(), lambda a: a.__iadd__([1]),
    lambda a: a.__imul__(2), lambda a: a.__setitem__(slice(0), [1]), lambda a: setattr(a, "x", 1),
]  # fmt: skip


@pytest.mark.parametrize("edit", DICT_EDITS, ids=range(len(DICT_EDITS)))
def test_an_object_refuses_every_edit(edit: Callable[[Any], Any]) -> None:
    value = freeze({"a": 1})
    with pytest.raises((TypeError, AttributeError)):
        edit(value)
    assert value == {"a": 1}


@pytest.mark.parametrize("edit", LIST_EDITS, ids=range(len(LIST_EDITS)))
def test_an_array_refuses_every_edit(edit: Callable[[Any], Any]) -> None:
    value = freeze([1, 2])
    with pytest.raises((TypeError, AttributeError)):
        edit(value)
    assert value == [1, 2]


def test_the_refusal_tells_what_to_do_instead() -> None:
    with pytest.raises(TypeError, match="with_body"):
        freeze({})["a"] = 1


def test_a_copy_is_the_same_value_and_a_deep_copy_is_editable() -> None:
    for frozen in (freeze({"a": [1]}), freeze([{"a": 1}])):
        assert copy.copy(frozen) is frozen
        deep = copy.deepcopy(frozen)
        assert deep == frozen
        assert type(deep) in (dict, list)


def test_a_frozen_value_survives_pickling() -> None:
    value = freeze({"a": [{"b": 1}]})
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert is_frozen(again)


def test_tuples_and_other_mappings_become_arrays_and_objects() -> None:
    assert is_frozen(freeze({"t": (1, MappingProxyType({"a": ()}))}))
    assert thaw((1, MappingProxyType({"a": ()}))) == [1, {"a": []}]


def test_what_is_frozen_is_not_copied() -> None:
    value = freeze({"a": 1})
    assert freeze(value) is value
    assert freeze({"b": value})["b"] is value


def test_pairs_become_a_frozen_object() -> None:
    assert is_frozen(frozen_pairs([("a", [1]), ("b", {"c": {}})]))
