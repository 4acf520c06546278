"""One record shows everything that is in it, in order, whatever it is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.calls import Call
from proxy.console.record import GROUPS, details
from proxy.records import Record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def call(**fields: Any) -> Call:
    return Call(id="a", time="2026-01-01T00:00:00.000000+00:00", fields=fields)


def test_every_field_of_a_record_has_its_place() -> None:
    elsewhere = {"id", "outcome", "verdicts", "findings", "failures"}
    for name in set(Record.__struct_fields__) - elsewhere:
        ((_, facts),) = details(call(**{name: "what it says"})).groups
        assert [value for _, value in facts] == ["what it says"], name
    assert {name for names in GROUPS.values() for name in names} <= set(Record.__struct_fields__)


def test_what_each_plugin_said_stands_in_order() -> None:
    verdicts = [
        {"plugin": "keys", "hook": "identify", "verdict": "pass", "milliseconds": 0.25},
        {"plugin": "pii", "hook": "detectors", "verdict": "deny", "milliseconds": 3, "detail": "x"},
    ]
    assert details(call(verdicts=verdicts)).verdicts == (
        ("keys", "identify", "pass", "250 µs", ""),
        ("pii", "detectors", "deny", "3 ms", "x"),
    )


def test_the_picture_of_the_time_is_whole() -> None:
    times = {"seconds": 2.0, "sent_seconds": 0.01, "first_byte_seconds": 1.5}
    stretches = details(call(**times)).stretches
    assert [stretch.text for stretch in stretches] == ["10 ms", "1.49 s", "500 ms"]
    assert round(sum(stretch.width for stretch in stretches), 1) == 100
    assert [stretch.begin for stretch in stretches] == [0, 0.5, 75]


def test_a_call_of_which_nothing_was_sent_says_so() -> None:
    (stretch,) = details(call(seconds=0.004)).stretches
    assert (stretch.name, stretch.width) == ("here, nothing was sent", 100)
    assert details(call()).stretches == details(call(seconds=-1)).stretches == ()


@given(st.dictionaries(st.sampled_from([*Record.__struct_fields__, "content", "odd"]), JSON))
def test_a_field_may_hold_anything(fields: dict[str, Any]) -> None:
    found = details(call(**fields))
    for _, facts in found.groups:
        assert all(len(name + value) < 500 for name, value in facts)
    for stretch in found.stretches:
        assert 0 <= stretch.begin <= 100.01
        assert 0 <= stretch.width <= 100.01


def test_encrypted_texts_are_named_and_not_shown() -> None:
    found = details(call(content={"request": {"sealed": "QUJD"}, "reply": {"sealed": "REVG"}}))
    assert found.content == "request, reply"
    assert "QUJD" not in repr(found)
