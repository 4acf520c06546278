"""Whatever a record holds becomes one line of ASCII that strict readers take."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit import AuditFault
from proxy.audit.encode import encode
from proxy.records import Usage
from proxy.secret import Secret

TEXT = st.text(st.characters(codec=None), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_every_value_is_one_ascii_line_of_strict_json(fields: dict[str, Any]) -> None:
    line = encode(fields)
    assert line.isascii()
    assert not set(line) & {*range(32), 127}
    assert len(msgspec.json.decode(line)) == len(json.loads(line))


def test_what_json_holds_is_kept_as_it_is() -> None:
    fields = {"a": [1, 2.5, None, True, "ä\u2028\x1b[0m\r\n\x7f"], "b": {"c": 2**63}}
    assert json.loads(encode(fields)) == fields


def test_structs_are_objects_and_secrets_are_not_shown() -> None:
    fields = {"usage": Usage(prompt_tokens=1), "key": Secret("sk-very-secret")}
    assert json.loads(encode(fields)) == {"usage": {"prompt_tokens": 1}, "key": "Secret(***)"}


def test_what_strict_json_has_no_word_for_is_replaced() -> None:
    found = json.loads(encode({"text": "a\ud800b", "number": float("inf"), "nan": [float("nan")]}))
    assert found == {"text": "a\ufffdb", "number": None, "nan": [None]}


def test_integers_of_any_size_are_exact() -> None:
    fields = {"n": [2**64, -(2**70), 10**100], "usage": Usage(prompt_tokens=1)}
    assert json.loads(encode(fields))["n"] == fields["n"]


def test_what_has_no_end_is_a_fault() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(AuditFault, match="deep"):
        encode(endless)


def test_what_is_too_large_is_a_fault() -> None:
    with pytest.raises(AuditFault, match="larger"):
        encode({"text": "x" * (33 << 20)})
