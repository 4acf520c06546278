"""Two decisions differ in what matters, and behind a refusal nothing does."""

from typing import Any

import pytest

from proxy.rehearsal.decision import Decision, Judged, clipped, denied, differences

ALLOWED = Decision(verdict="allowed")


def judged(decision: Decision = ALLOWED, **fields: Any) -> Judged:
    return Judged(decision=decision, **fields)


def allowed(**fields: Any) -> Decision:
    return Decision(verdict="allowed", **fields)


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (judged(), judged(), ()),
        (judged(), judged(denied("pii", "x")), ("verdict",)),
        (judged(denied("pii", "x")), judged(denied("pii", "y")), ("verdict",)),
        (judged(denied("pii", "x")), judged(denied("secrets", "x")), ("verdict",)),
        (judged(denied("pii", "x", {"a deny": 1})), judged(denied("pii", "x")), ("findings",)),
        (judged(denied("a", "x"), body="1"), judged(denied("a", "x"), body="2"), ()),
        (judged(body="1"), judged(body="2"), ("body",)),
        (judged(body="1"), judged(), ()),
        (judged(allowed(findings={"a mask": 1})), judged(allowed(findings={"a mask": 2})), ("findings",)),
        (judged(allowed(findings=None)), judged(allowed(findings={"a mask": 2})), ()),
        (judged(allowed(reply="shown"), shown=1), judged(allowed(reply="shown"), shown=2), ("reply",)),
        (judged(allowed(reply="shown"), shown=1), judged(allowed(reply="shown"), shown=1), ()),
        (judged(allowed(reply="shown")), judged(allowed(reply="denied", reply_by="a")), ("reply",)),
        (judged(allowed(reply="shown"), shown=1), judged(allowed()), ()),
        (
            judged(allowed(reply="denied", findings={"a mask": 1}), body="1"),
            judged(allowed(reply="shown"), body="2"),
            ("reply", "body", "findings"),
        ),
    ],
)  # fmt: skip
def test_decisions_differ_in(one: Judged, other: Judged, differs: tuple[str, ...]) -> None:
    assert differences(one, other) == differs
    assert differences(other, one) == differs


def test_a_code_of_a_plugin_is_no_longer_than_a_line_takes() -> None:
    assert clipped("x" * 1000) == "x" * 64
    assert clipped(None) is None
