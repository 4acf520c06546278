"""A refusal may be told in other words, and is never taken back."""

import time
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Call, Denial, Deny, Reply, hookimpl
from proxy.testing import PluginFailed, harness
from tests.gateway import COMPLETION, REPLY, STREAMED, chunk, gateway
from tests.policing import CANARY
from tests.upstream import hang_up, json_reply, sse

GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"canary": "CANARY-[0-9]{4}"}}}
SEEN: Final[list[Denial]] = []


@dataclass(frozen=True)
class Dialect:
    """Speaks of refusals in its own way."""

    status: int = 451

    @hookimpl
    def rewrite_denial(self, call: Call, denial: Denial, reply: Reply) -> Reply:
        SEEN.append(denial)
        return reply.replace(
            status=self.status, body={"no": denial.deny.code, "was": reply.body, "id": call.id}
        )


def dialect(plugin: str = "Dialect", /, **entry: Any) -> dict[str, Any]:
    return {"use": f"tests.test_denials:{plugin}", **entry}


def test_a_plugin_tells_of_a_refusal_in_its_own_words_and_status() -> None:
    SEEN.clear()
    policy = {"request": {"canary": "deny"}, "response": {"canary": "deny"}}
    said = json_reply({**REPLY, "model": CANARY})
    with gateway(said, plugins=[GUARD, dialect()], policy=policy) as gate:
        answers = [gate.ask({**COMPLETION, "prompt": CANARY}), gate.ask(COMPLETION)]
        for answer, record in zip(answers, gate.records, strict=True):
            assert answer.status == record.status == 451
            assert answer.json()["no"] == record.code == "content_policy_violation"
            assert answer.json()["was"]["error"]["code"] == "content_policy_violation"
            assert answer.json()["id"] == record.id == answer.header("x-outgate-id")
            assert answer.header("x-should-retry") == "false"
            assert (record.outcome, record.denied_by) == ("denied", "regex_guard")
            assert ("rewrite_denial", "rewrite") in [(v.hook, v.verdict) for v in record.verdicts]
        assert [(d.by, d.answered, len(d.findings)) for d in SEEN] == [
            ("regex_guard", False, 1), ("regex_guard", True, 1),
        ]  # fmt: skip


def test_they_are_asked_in_order_where_their_scope_fits_and_monitors_change_nothing() -> None:
    plugins = [
        GUARD,
        dialect(name="one", options={"status": 452}),
        dialect(name="two", options={"status": 453}, when={"models": ["other"]}),
        dialect(name="three", options={"status": 454}, mode="monitor"),
    ]
    with gateway(plugins=plugins) as gate:
        assert gate.ask({**COMPLETION, "prompt": CANARY}).status == 452
        verdicts = [
            (v.plugin, v.verdict) for v in gate.record().verdicts if v.hook == "rewrite_denial"
        ]
        assert verdicts == [("one", "rewrite"), ("three", "monitor:rewrite")]


@dataclass(frozen=True)
class Broken:
    """Fails in one of many ways."""

    how: str

    @hookimpl
    def rewrite_denial(self, reply: Reply) -> Any:
        match self.how:
            case "raises":
                raise ValueError(CANARY)
            case "exits":
                raise SystemExit
            case "sleeps":
                time.sleep(0.05)
                return reply.replace(status=418)
            case "takes it back":
                return reply.replace(status=200)
            case "redirects":
                return reply.replace(status=302)
            case "tells a text":
                return reply.replace(body="no")
            case "tells what JSON cannot":
                return reply.replace(body={"a": float("nan")})
            case _:
                return Deny("another")


@pytest.mark.parametrize(
    "how",
    [
        "raises", "exits", "sleeps", "takes it back", "redirects", "tells a text", "tells what JSON cannot",
        "returns something else",
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_one_that_fails_changes_nothing_and_the_call_stays_refused(how: str, on_error: str) -> None:
    broken = dialect("Broken", options={"how": how}, on_error=on_error, deadline=0.01)
    with gateway(plugins=[GUARD, broken]) as gate:
        answer = gate.ask({**COMPLETION, "prompt": CANARY})
        assert (answer.status, answer.error["code"]) == (400, "content_policy_violation")
        record = gate.record()
        assert (record.denied_by, record.status) == ("regex_guard", 400)
        assert record.verdicts[-1].verdict == "error"
        assert gate.upstream.requests == []


def test_only_refusals_of_a_known_caller_by_a_plugin_or_the_policy_are_told_so() -> None:
    SEEN.clear()
    with gateway(hang_up(), plugins=[dialect()]) as gate:
        assert gate.ask(COMPLETION, [("Content-Type", "application/json")]).status == 401
        assert gate.ask({**COMPLETION, "n": "many"}).status == 400
        assert gate.ask(COMPLETION).status == 502
    assert SEEN == []


def test_a_stream_that_has_begun_ends_as_its_clients_know_it() -> None:
    SEEN.clear()
    script = sse([chunk("a"), chunk(CANARY), chunk("b", "stop"), "[DONE]"])
    policy = {"response": {"canary": "deny"}}
    with gateway(script, plugins=[GUARD, dialect()], policy=policy) as gate:
        answer = gate.ask(STREAMED)
        assert answer.status == 200
        assert b"content_filter" in answer.body
    assert SEEN == []


@dataclass(frozen=True)
class Refuser:
    """Refuses, and says so."""

    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("no", code="mine", status=409)

    @hookimpl
    def rewrite_denial(self, denial: Denial, reply: Reply) -> Reply | None:
        return reply.replace(body={"by": denial.by}) if denial.deny.code == "mine" else None


def test_the_harness_shows_how_a_refusal_is_told() -> None:
    result = harness(Refuser).completions()
    assert result.denied
    assert result.refusal == Reply(status=409, body={"by": "Refuser"})
    result = harness(Refuser).completions(n="many")
    assert result.refusal is not None
    assert result.refusal.status == 400
    with pytest.raises(PluginFailed, match="rewrite_denial"):
        harness(Mistaken).completions()


@dataclass(frozen=True)
class Mistaken:
    """Refuses, and tells nothing that could be told."""

    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("no")

    @hookimpl
    def rewrite_denial(self, reply: Reply) -> Reply | None:
        return reply.replace(body=None)
