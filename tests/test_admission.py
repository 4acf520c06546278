"""What a call may cost is granted before it leaves, and what was granted is told when the call ends."""

from dataclasses import dataclass
from typing import Literal

import pytest

from proxy import Admission, Call, Deny, Record, Unavailable, hookimpl
from tests.gateway import COMPLETION, STREAMED, gateway, refused
from tests.upstream import json_reply

_told: list[tuple[str, str, str]] = []


@dataclass(frozen=True)
class Grants:
    """Grants, refuses or fails as it is told to, and remembers what it was told."""

    name: str = "first"
    do: Literal["grant", "deny", "away", "raise", "nothing", "garbage"] = "grant"

    @hookimpl
    def admit(self, call: Call) -> Admission | Deny | None:
        _told.append((self.name, "admit", call.id))
        if self.do == "away":
            raise Unavailable("The purse does not answer; try again.", retry_after=7)
        if self.do == "raise":
            raise ValueError("no")
        if self.do == "deny":
            headers = {"retry-after": "3", "x-ratelimit-limit-requests": "1", "set-cookie": "a=b"}
            return Deny(
                "Too many.", "rate_limit_exceeded", status=429, type="requests", headers=headers
            )
        if self.do == "garbage":
            return Admission({"set-cookie": "a=b"})
        return Admission({"x-ratelimit-limit-requests": self.name}) if self.do == "grant" else None

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        _told.append((self.name, record.outcome, record.id))


def grants(do: str, name: str = "first", **entry: object) -> dict[str, object]:
    use = f"{__name__}:Grants"
    return {"use": use, "name": name, "options": {"name": name, "do": do}, **entry}


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    _told.clear()


def test_a_grant_is_told_of_the_end_of_the_call_by_its_id() -> None:
    with gateway(plugins=[grants("grant")]) as gate:
        assert gate.ask(COMPLETION).status == 200
        record = gate.record()
    assert _told == [("first", "admit", record.id), ("first", "ok", record.id)]
    assert [v.verdict for v in record.verdicts if v.hook == "admit"] == ["admitted"]


def test_a_later_refusal_is_told_to_who_granted_before() -> None:
    with gateway(plugins=[grants("grant"), grants("deny", "second")]) as gate:
        answer = gate.ask(COMPLETION)
        record = gate.record()
        assert gate.upstream.requests == []
    assert answer.status == 429
    assert ("first", "denied", record.id) in _told
    assert record.denied_by == "second"


def test_a_refusal_says_when_to_try_again_and_nothing_else() -> None:
    with gateway(plugins=[grants("deny")]) as gate:
        answer = gate.ask(COMPLETION)
    error = answer.error
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert answer.header("retry-after") == "3"
    assert answer.header("x-ratelimit-limit-requests") == "1"
    assert answer.header("x-should-retry") is None
    assert answer.header("set-cookie") is None


def test_the_header_of_a_grant_replaces_the_upstreams() -> None:
    reply = json_reply({"choices": []}, headers=[("x-ratelimit-limit-requests", "upstream")])
    with gateway(reply, plugins=[grants("grant")]) as gate:
        answer = gate.ask(COMPLETION)
    values = [value for name, value in answer.headers if name == "x-ratelimit-limit-requests"]
    assert values == ["first"]


def test_state_that_is_away_refuses_with_503_and_retry_after() -> None:
    with gateway(plugins=[grants("away")]) as gate:
        answer = gate.ask(COMPLETION)
        record = gate.record()
    assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
    assert answer.error["message"] == "The purse does not answer; try again."
    assert answer.header("retry-after") == "7"
    assert "unavailable" in (record.verdicts[-1].detail or "")


def test_state_that_is_away_may_be_borne_by_the_operator() -> None:
    with gateway(plugins=[grants("away", on_error="allow")]) as gate:
        assert gate.ask(COMPLETION).status == 200


@pytest.mark.parametrize("do", ["raise", "garbage"])
def test_a_plugin_that_fails_to_decide_denies(do: str) -> None:
    with gateway(plugins=[grants(do)]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.upstream.requests == []


@pytest.mark.parametrize("do", ["deny", "away", "raise"])
def test_a_monitored_plugin_never_refuses(do: str) -> None:
    with gateway(plugins=[grants(do, mode="monitor")]) as gate:
        assert gate.ask(COMPLETION).status == 200


def test_a_scope_keeps_the_plugin_out() -> None:
    with gateway(plugins=[grants("deny", when={"models": ["other"]})]) as gate:
        assert gate.ask(COMPLETION).status == 200


def test_the_body_that_is_granted_is_the_body_that_is_sent() -> None:
    with gateway(plugins=[grants("nothing")]) as gate:
        gate.ask({**STREAMED, "stream": False})
        assert gate.upstream.requests[0].json() == {**STREAMED, "stream": False}


def test_who_granted_is_told_of_the_end_even_where_a_finding_hides_the_model() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"codename": "BLUEBIRD"}}}
    policy = {"request": {"codename": "monitor"}}
    scoped = grants("grant", when={"models": ["BLUEBIRD*"]})
    with gateway(plugins=[guard, scoped], policy=policy) as gate:
        assert gate.ask({**COMPLETION, "model": "BLUEBIRD-1"}).status == 200
        record = gate.record()
    assert record.model is None
    assert _told[-1] == ("first", "ok", record.id)


@dataclass(frozen=True)
class Away:
    """A plugin whose routing table does not answer."""

    @hookimpl
    def choose_upstream(self) -> None:
        raise Unavailable("The routing table does not answer; try again.", retry_after=9)


def test_a_choice_that_is_away_refuses_with_503_and_retry_after() -> None:
    with gateway(plugins=[{"use": f"{__name__}:Away"}]) as gate:
        answer = gate.ask(COMPLETION)
    assert (answer.status, answer.error["code"]) == (503, "state_unavailable")
    assert answer.header("retry-after") == "9"
    assert answer.header("x-should-retry") is None
