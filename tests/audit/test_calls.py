"""What a call is, and which calls a question fits."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.calls import Call, Query, begun, ended, written
from proxy.audit.records import Entry

WHEN = "2026-08-01T12:00:00.000000+00:00"
RECORD = {
    "id": "req_1",
    "endpoint": "chat",
    "principal": "alice",
    "metadata": {"team": "research", "key": "key_1"},
    "model": "gpt-4o-mini",
    "upstream": "main",
    "outcome": "denied",
    "code": "content_policy_violation",
    "verdicts": [
        {"plugin": "models", "hook": "guard_request", "verdict": "pass"},
        {"plugin": "pii", "hook": "guard_request", "verdict": "monitor:deny"},
    ],
    "findings": [{"kind": "email", "place": "messages[0].content"}],
    "notes": {"ticket": 'a "quoted" Ärger'},
}


def entry(kind: str, body: dict[str, Any], time: str = WHEN, seq: int = 1) -> Entry:
    return Entry(
        segment="s", line=2, start=1, end=9, seq=seq, time=time, mono=1.0, kind=kind, body=body,
        mac="0" * 64, signed=b"",
    )  # fmt: skip


def call(**changes: Any) -> Call:
    return ended(None, entry("outcome", {**RECORD, **changes}))


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(key="key_1"),
        Query(key="key_?", team="res*", principal="alice"),
        Query(model="gpt-4o*", endpoint="chat", upstream="main"),
        Query(outcome="denied", code="content_*"),
        Query(plugin="pii"),
        Query(verdict="pass"),
        Query(plugin="pii", verdict="monitor:*"),
        Query(finding="em*l"),
        Query(text="GUARD_request"),
        Query(text='"QUOTED" ärger'),
        Query(since=datetime(2026, 8, 1, 12, tzinfo=UTC)),
        Query(since=datetime(2026, 8, 1, 12), until=datetime(2026, 8, 1, 12, 0, 1)),  # noqa: DTZ001
        Query(until=datetime(2026, 8, 1, 15, tzinfo=timezone(timedelta(hours=2)))),
    ],
    ids=str,
)
def test_a_question_that_fits_in_all_its_parts_fits(query: Query) -> None:
    assert query.matches(call())


@pytest.mark.parametrize(
    "query",
    [
        Query(key="alice"),
        Query(team="Research"),
        Query(model="gpt-4o", principal="alice"),
        Query(outcome="ok"),
        Query(plugin="models", verdict="monitor:deny"),
        Query(plugin="mod"),
        Query(finding="email?"),
        Query(text="nowhere"),
        Query(text="\udcff"),
        Query(since=datetime(2026, 8, 1, 12, 0, 1, tzinfo=UTC)),
        Query(until=datetime(2026, 8, 1, 12, tzinfo=UTC)),
        Query(until=datetime(2026, 8, 1, 13, tzinfo=timezone(timedelta(hours=2)))),
    ],
    ids=ascii,
)
def test_one_part_that_does_not_fit_is_enough(query: Query) -> None:
    assert not query.matches(call())


def test_callers_without_the_id_of_a_key_are_found_by_their_name() -> None:
    assert Query(key="alice").matches(call(metadata={}))


def test_an_outcome_overrules_its_intent_and_leaves_what_it_does_not_name() -> None:
    intent = entry("intent", {"id": "r", "model": "a", "digest": "d", "content": {"request": {}}})
    body = {"id": "r", "model": "b", "outcome": "ok", "content": {"reply": {}}}
    joined = ended(begun(intent), entry("outcome", body, seq=2))
    assert joined.fields["digest"] == "d"
    assert joined.model == "b"
    assert joined.fields["content"] == {"request": {}, "reply": {}}
    assert (joined.intent and joined.intent.seq, joined.ended and joined.ended.seq) == (1, 2)


def test_a_call_is_open_until_it_ends_or_is_recovered() -> None:
    begin = begun(entry("intent", {**RECORD, "outcome": "ok"}))
    assert begin.outcome == "open"
    place = {"segment": "s", "seq": 1, "time": WHEN}
    answer = {"id": "req_1", "outcome": "recovered", "found_in": "s", "intent": place}
    late = entry("recovered", answer, time="2026-08-02T00:00:00.000000+00:00")
    recovered = ended(begin, late)
    assert recovered.outcome == "recovered"
    assert recovered.team == "research"
    assert "found_in" not in recovered.fields
    assert ended(None, late).time == WHEN


def test_a_call_began_when_its_record_says_not_when_that_was_written() -> None:
    began = begun(entry("intent", {"id": "r", "time": "2026-08-01T13:59:59.5+02:00"}))
    assert began.time == "2026-08-01T11:59:59.500000+00:00"
    assert began.time == written(datetime.fromisoformat("2026-08-01T11:59:59.5"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys([*RECORD, "time", "groups", "content"], ANYTHING)
    )
)
def test_whatever_somebody_wrote_into_a_record_it_is_a_call(body: dict[str, Any]) -> None:
    whole = ended(begun(entry("intent", body)), entry("outcome", body))
    for one in (whole, ended(None, entry("recovered", body))):
        every = Query(
            key="*",
            team="*",
            principal="*",
            model="*",
            outcome="*",
            plugin="*",
            finding="*",
            text="a",
        )
        every.matches(one)
        assert isinstance(one.outcome, str)
        assert one.number("status") is None or one.texts("groups") is not None
