"""The tries of a call: whose answer is passed on, what ends them, and what a plugin may choose."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from proxy import Admission, Call, Choice, Deny, Failure, hookimpl
from proxy.audit.reading import Query, search
from tests.connection import Connection, Received
from tests.gateway import COMPLETION, REPLY, STREAMED, Gateway, chunk, gateway, refused
from tests.several import several
from tests.upstream import Script, ScriptedUpstream, cut_after, json_reply, rst, silent, sse

BUSY: Final = json_reply({"error": {"message": "busy"}}, 429, [("retry-after-ms", "1")])
BROKEN: Final = json_reply({"error": {"message": "broken"}}, 500)
WELL: Final = json_reply(REPLY)
#: A pause that no test waits for.
LONG: Final = {"attempts": 2, "base": 120, "most": 120}


def kinds(gate: Gateway) -> list[tuple[str, str]]:
    return [(failure.upstream, failure.kind) for failure in gate.record().failures]


# -- whose answer is passed on ---------------------------------------------------------------------


@pytest.mark.parametrize("then", ["refused", "cut", "silent", "garbage"])
def test_an_answer_is_passed_on_when_later_tries_give_none(then: str) -> None:
    scripts: dict[str, Any] = {
        "refused": None, "cut": [rst()], "silent": [silent()], "garbage": [json_reply([], 200)],
    }  # fmt: skip
    route = {"upstreams": ["a", "b"], "on": [429]}
    settings = {"b": {"timeouts": {"first_byte": 0.2}}}
    with several({"a": [BUSY], "b": scripts[then]}, route, settings=settings) as (gate, _):
        answer = gate.ask(COMPLETION)
        record = gate.record()
    assert (answer.status, answer.json()) == (429, {"error": {"message": "busy"}})
    assert answer.header("retry-after-ms") == "1"
    assert answer.header("x-outgate-upstream") == "a"
    assert answer.header("x-outgate-attempts") == "2"
    assert (record.upstream, record.upstream_status, record.attempts) == ("a", 429, 2)
    assert [failure.upstream for failure in record.failures] == ["a", "b"]


def test_the_last_of_several_answers_is_passed_on() -> None:
    route = {"upstreams": ["a", "b", "c"], "on": [429, 500]}
    with several({"a": [BUSY], "b": [BROKEN], "c": None}, route) as (gate, _):
        assert gate.ask(COMPLETION).status == 500
        assert gate.record().upstream == "b"


def test_what_is_told_of_an_error_is_not_that_of_an_earlier_answer() -> None:
    huge = json_reply({"error": "x" * 2_000_000}, 500)
    route = {"upstreams": ["a", "b"], "on": [500]}
    with several({"a": [huge], "b": None}, route) as (gate, _):
        answer = gate.ask(COMPLETION)
        record = gate.record()
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert kinds_of(record.failures) == ["status", "connect"]
    assert (record.upstream, record.upstream_status, record.upstream_address) == ("b", None, None)


def kinds_of(failures: tuple[Failure, ...]) -> list[str]:
    return [failure.kind for failure in failures]


def test_an_error_whose_body_does_not_come_is_followed_by_the_next_upstream_all_the_same() -> None:
    cut = cut_after(140, json_reply({"error": "x" * 500}, 500))
    with several({"a": [cut], "b": [WELL]}, {"upstreams": ["a", "b"], "on": [500]}) as (gate, _):
        assert gate.ask(COMPLETION).json() == REPLY
        assert kinds(gate) == [("a", "status")]


def test_a_renamed_model_is_what_each_upstream_gets_and_the_record_is_of_the_answer() -> None:
    upstreams = [{"upstream": "a", "model": "large"}, {"upstream": "b", "body": {"seed": 7}}]
    route = {"upstreams": upstreams, "on": [429], "models": ["m"]}
    with several({"a": [BUSY], "b": [WELL]}, route) as (gate, servers):
        assert gate.ask(COMPLETION).status == 200
        assert servers["a"].requests[0].json() == {**COMPLETION, "model": "large"}
        assert servers["b"].requests[0].json() == {**COMPLETION, "seed": 7}
        assert gate.record().model == "m"
    with several({"a": [BUSY], "b": None}, route) as (gate, servers):
        assert gate.ask(COMPLETION).status == 429
        assert gate.record().model == "large"
        assert gate.record().bytes_sent == len(servers["a"].requests[0].body)


def test_a_call_without_a_body_is_routed_and_not_changed() -> None:
    listed = json_reply({"object": "list", "data": []})
    route = {"upstreams": [{"upstream": "a", "model": "large"}, "b"]}
    with several({"a": None, "b": [listed]}, route) as (gate, servers):
        assert gate.ask(path="/v1/models", method="GET").status == 200
        assert servers["b"].requests[0].body == b""
        assert gate.record().attempts == 2


# -- what ends them --------------------------------------------------------------------------------


@contextmanager
def waiting(
    route: dict[str, Any], **sections: Any
) -> Iterator[tuple[Gateway, socket.socket, ScriptedUpstream]]:
    """A call that waits for its second try."""
    with (
        several({"a": [BROKEN]}, {"upstreams": ["a"], **route}, **sections) as (gate, servers),
        gate.send(COMPLETION) as sock,
    ):
        server = servers["a"]
        server.wait_for(lambda: len(server.requests) == 1)
        # The answer is read and the connection kept before the pause begins.
        time.sleep(0.1)
        yield gate, sock, server


def test_a_caller_that_hangs_up_during_a_pause_ends_its_call_at_once() -> None:
    with waiting({"retry": LONG}) as (gate, sock, server):
        sock.close()
        record = gate.record()
        assert (record.outcome, record.status, record.attempts) == ("client_gone", 499, 1)
        assert kinds_of(record.failures) == ["status", "client_gone"]
        server.wait_for(gate.settled)
        assert len(server.requests) == 1
        assert record.seconds < LONG["base"]
        assert record.proxy_seconds is not None


def test_a_drain_during_a_pause_ends_the_call_at_once() -> None:
    with waiting({"retry": LONG}) as (gate, sock, server):
        gate.pipeline.drain(0.05)
        assert b"503" in sock.recv(100)
        record = gate.record()
        assert (record.outcome, record.code, len(server.requests)) == ("denied", "draining", 1)


def test_the_time_of_a_call_bounds_all_its_tries() -> None:
    retry = {"attempts": 1000, "base": 0.05, "most": 0.05}
    limits = {"call_seconds": 0.5, "tries": 1000}
    with several({"a": [BROKEN]}, {"upstreams": ["a"], "retry": retry}, limits=limits) as (
        gate, servers,
    ):  # fmt: skip
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.json()) == (500, {"error": {"message": "broken"}})
        assert 1 < gate.record().attempts < 30
        assert len(servers["a"].requests) == gate.record().attempts


def test_a_pause_that_would_outlast_the_call_is_not_begun() -> None:
    limits = {"call_seconds": 5.0}
    route = {"upstreams": ["a"], "retry": LONG}
    with several({"a": [BROKEN]}, route, limits=limits) as (gate, _):
        assert gate.ask(COMPLETION).status == 500
        assert gate.record().seconds < 5.0


def test_a_call_has_so_many_tries_and_no_more() -> None:
    retry = {"attempts": 50, "base": 0.0}
    with several({"a": [BROKEN]}, {"upstreams": ["a"], "retry": retry}, limits={"tries": 4}) as (
        gate,
        servers,
    ):
        assert gate.ask(COMPLETION).status == 500
        assert (len(servers["a"].requests), gate.record().attempts) == (4, 4)


def test_each_try_is_on_record_before_it_leaves(tmp_path: Path) -> None:
    seen: list[int] = []

    def looking(then: Script) -> Script:
        def play(connection: Connection, request: Received) -> None:
            written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
            seen.append(len(re.findall(rb'"attempt":', written)))
            then(connection, request)

        return play

    audit = {"directory": str(tmp_path / "trail"), "mode": "required"}
    route = {"upstreams": ["a", "b"], "on": [500], "retry": {"attempts": 2, "base": 0.0}}
    scripts = {"a": [looking(BROKEN)], "b": [looking(WELL)]}
    with several(scripts, route, audit=audit) as (gate, _):
        assert gate.ask(COMPLETION).status == 200
        gate.record()
    assert seen == [1, 2, 3]
    (call,) = search(tmp_path / "trail", Query())
    assert (call.outcome, call.fields["attempts"]) == ("ok", 3)


# -- upstreams that are left alone -----------------------------------------------------------------


def test_errors_of_callers_never_cool_an_upstream() -> None:
    breaker = {"a": {"breaker": {"failures": 1, "seconds": 60}}}
    statuses = [400, 401, 403, 404, 422, 429]
    scripts = [*(json_reply({"error": {}}, status) for status in statuses), WELL]
    with several({"a": scripts}, {"upstreams": ["a"]}, settings=breaker) as (gate, _):
        assert [gate.ask(COMPLETION).status for _ in range(7)] == [*statuses, 200]
        assert gate.pipeline.vitals()["circuits_open"] == 0


def test_an_upstream_that_is_left_alone_answers_503_and_says_when_to_come_back() -> None:
    breaker = {"a": {"breaker": {"failures": 2, "seconds": 60}}}
    with several({"a": [BROKEN]}, {"upstreams": ["a"]}, settings=breaker) as (gate, servers):
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [500, 500]
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "upstream_unavailable")
        assert 50 < int(answer.header("retry-after") or 0) <= 61
        assert answer.header("x-should-retry") is None
        gate.record(3)
        (record,) = (r for r in gate.records if r.code == "upstream_unavailable")
        assert (record.attempts, record.upstream, record.outcome) == (0, None, "denied")
        (failure,) = record.failures
        assert (failure.upstream, failure.kind) == ("a", "circuit_open")
        assert len(servers["a"].requests) == 2
        assert gate.pipeline.vitals()["circuits_open"] == 1


def test_the_next_upstream_is_asked_while_one_is_left_alone() -> None:
    breaker = {"a": {"breaker": {"failures": 1, "seconds": 60}}}
    with several({"a": [BROKEN], "b": [WELL]}, {"upstreams": ["a", "b"]}, settings=breaker) as (
        gate, servers,
    ):  # fmt: skip
        assert [gate.ask(COMPLETION).status for _ in range(3)] == [500, 200, 200]
        assert (len(servers["a"].requests), len(servers["b"].requests)) == (1, 2)
        assert gate.record(3).attempts == 1


def test_an_upstream_is_back_when_one_call_found_it_well() -> None:
    breaker = {"a": {"breaker": {"failures": 1, "seconds": 0.3}}}
    with several({"a": [BROKEN, WELL]}, {"upstreams": ["a"]}, settings=breaker) as (gate, servers):
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [500, 503]
        time.sleep(0.35)
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [200, 200]
        assert len(servers["a"].requests) == 3


def test_bodies_that_are_cut_count_as_failures_although_their_heads_came() -> None:
    breaker = {"a": {"breaker": {"failures": 3, "seconds": 60}}}
    cut = cut_after(140, WELL)
    with several({"a": [cut]}, {"upstreams": ["a"]}, settings=breaker) as (gate, _):
        assert [gate.ask(COMPLETION).status for _ in range(4)] == [502, 502, 502, 503]


def test_an_upstream_that_cannot_be_reached_is_left_alone_in_the_middle_of_its_retries() -> None:
    breaker = {"a": {"breaker": {"failures": 2, "seconds": 60}}}
    route = {"upstreams": ["a", "b"], "retry": {"attempts": 5, "base": 0.0}}
    with several({"a": None, "b": [WELL]}, route, settings=breaker) as (gate, _):
        assert gate.ask(COMPLETION).status == 200
        assert kinds(gate) == [("a", "connect"), ("a", "connect"), ("a", "circuit_open")]


# -- what a plugin may choose ----------------------------------------------------------------------


@dataclass(frozen=True)
class Picking:
    """Makes the choices that a test put here."""

    what: str

    @hookimpl
    def choose_upstream(self, call: Call, failures: tuple[Failure, ...]) -> Any:
        return _CHOICES[self.what](call, failures)


@dataclass(frozen=True)
class Guarding:
    """Lets no call pass that is for the model "secret"; tells how often it was asked what."""

    box: str

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        _SEEN.append(f"guard {call.model}")
        return Deny("Not this one.", code="not_this_model") if call.model == "secret" else None

    @hookimpl
    def admit(self, call: Call) -> Admission:
        _SEEN.append(f"admit {call.model}")
        return Admission({"x-model": str(call.model)})


_SEEN: list[str] = []
_CHOICES: dict[str, Callable[[Call, tuple[Failure, ...]], Any]] = {}


def picking(choose: Callable[[Call, tuple[Failure, ...]], Any]) -> list[dict[str, Any]]:
    """The plugin that chooses so, and one that guards and admits."""
    _SEEN.clear()
    _CHOICES["it"] = choose
    return [
        {"use": "tests.test_tries:Picking", "name": "picking", "options": {"what": "it"}},
        {"use": "tests.test_tries:Guarding", "name": "guarding", "options": {"box": "b"}},
    ]


def only(**fields: Any) -> list[dict[str, Any]]:
    """A plugin that makes one choice."""
    return picking(lambda _, failures: None if failures else Choice(upstream="main", **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"after": -1.0}, {"after": float("nan")}, {"after": float("inf")}, {"after": "1"},
        {"timeout": 0.0}, {"timeout": float("nan")}, {"timeout": -1}, {"target": 1},
        {"body": []}, {"body": {"messages": []}}, {"body": {"stream": True}}, {"body": {"model": ""}},
        {"body": {"model": 7}}, {"body": {"x": {1, 2}}}, {"body": {"temperature": "hot"}},
        {"body": {"api_base": "https://elsewhere.example"}},
        {"again_on": frozenset({200})}, {"again_on": frozenset({"500"})}, {"again_on": [500]},
        {"again_unanswered": 1}, {"from_caller": 1}, {"reply_headers": {"set-cookie": "a"}},
        {"reply_headers": {"x-a": "b\r\nc"}}, {"reply_headers": {"x-a": 1}},
    ],
    ids=repr,
)  # fmt: skip
def test_a_choice_with_a_bad_value_is_a_fault_of_its_plugin(fields: dict[str, Any]) -> None:
    with gateway(plugins=only(**fields)) as gate:
        error = refused(gate.ask(COMPLETION), 502, "plugin_failed")
        assert "picking" in error["message"]
        assert gate.upstream.requests == []
        assert gate.record().denied_by == "picking"


def test_what_a_choice_hands_on_from_the_caller_is_the_callers_mistake() -> None:
    with gateway(plugins=only(body={"temperature": "hot"}, from_caller=True)) as gate:
        assert refused(gate.ask(COMPLETION), 400)["param"] == "temperature"
        assert gate.upstream.requests == []


def test_a_model_that_a_plugin_chose_is_judged_and_admitted_as_any_other() -> None:
    with gateway(plugins=only(body={"model": "secret"})) as gate:
        refused(gate.ask(COMPLETION), 400, "not_this_model")
        assert gate.upstream.requests == []
        assert gate.record().denied_by == "guarding"
    assert _SEEN == ["guard m", "admit m", "guard secret"]
    with gateway(plugins=only(body={"model": "open"})) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.header("x-model")) == (200, "open")
        assert gate.upstream.requests[0].json()["model"] == "open"
        assert gate.record().model == "open"
    assert _SEEN == ["guard m", "admit m", "guard open", "admit open"]


def test_a_model_that_the_operator_chose_is_admitted_and_not_guarded_again() -> None:
    routes = [{"upstreams": [{"upstream": "main", "model": "secret"}]}]
    with gateway(plugins=picking(lambda *_: None), routes=routes) as gate:
        assert gate.ask(COMPLETION).status == 200
    assert _SEEN == ["guard m", "admit m", "admit secret"]


def test_a_model_that_a_plugin_chose_must_be_one_of_the_teams() -> None:
    teams = {"staff": {"models": ["m", "small"]}}
    keys = [{"name": "alice", "groups": ["staff"], "key": {"env": "TEST_UPSTREAM_KEY"}}]
    plugins = [{"use": "static_keys", "name": "more", "options": {"keys": keys}}]
    headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-upstream-0123456789"),
    ]
    for model, status in (("small", 200), ("large", 403)):
        with gateway(plugins=[*plugins, *only(body={"model": model})], teams=teams) as gate:
            assert gate.ask(COMPLETION, headers).status == status
            assert len(gate.upstream.requests) == (status == 200)


def test_what_a_plugin_puts_into_the_body_is_searched_like_the_rest() -> None:
    card = {"use": "regex_guard", "options": {"patterns": {"card": r"\d{16}"}}}
    chosen = only(body={"user": "4111111111111111"})
    for action, code in (
        ("deny", "content_policy_violation"),
        ("redact", "content_policy_violation"),
    ):
        with gateway(plugins=[card, *chosen], policy={"request": {"card": action}}) as gate:
            refused(gate.ask(COMPLETION), 400, code)
            assert gate.upstream.requests == []


def test_a_plugin_is_asked_again_with_all_that_failed() -> None:
    asked: list[tuple[Failure, ...]] = []

    def choose(_: Call, failures: tuple[Failure, ...]) -> Choice:
        asked.append(failures)
        return Choice(upstream="main", target=str(len(failures)), again_on=frozenset({429}))

    with gateway(BUSY, BUSY, WELL, plugins=picking(choose)) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.header("x-outgate-attempts")) == (200, "3")
    told = [Failure("main", "status", "answered 429", str(n), 429, 0.001) for n in range(2)]
    assert asked == [(), (told[0],), tuple(told)]


def test_headers_of_a_choice_go_with_its_answer_and_with_no_other() -> None:
    def choose(_: Call, failures: tuple[Failure, ...]) -> Choice:
        target = str(len(failures))
        headers = {"x-target": target, f"x-only-{target}": "yes"}
        return Choice(
            upstream="main", target=target, reply_headers=headers,
            again_on=frozenset() if failures else frozenset({429}),
        )  # fmt: skip

    with gateway(BUSY, WELL, plugins=picking(choose)) as gate:
        answer = gate.ask(COMPLETION)
    assert (answer.header("x-target"), answer.header("x-only-1")) == ("1", "yes")
    assert answer.header("x-only-0") is None


def test_a_plugin_that_never_stops_choosing_has_as_many_tries_as_any() -> None:
    def choose(_: Call, failures: tuple[Failure, ...]) -> Choice:
        return Choice(upstream="main", target="same", again_on=frozenset({500}))

    with gateway(BROKEN, plugins=picking(choose)) as gate:
        assert gate.ask(COMPLETION).status == 500
        assert len(gate.upstream.requests) == 10


def test_the_haste_of_a_plugin_does_not_cool_an_upstream_for_others() -> None:
    settings = {"breaker": {"failures": 1, "seconds": 60}}
    with gateway(silent(), WELL, plugins=only(timeout=0.05), upstream=settings) as gate:
        assert gate.ask(COMPLETION).status == 504
        assert gate.record().failures[0].kind == "timeout_first_byte"
        assert gate.pipeline.vitals()["circuits_open"] == 0
    with gateway(silent(), upstream={**settings, "timeouts": {"first_byte": 0.05}}) as gate:
        assert [gate.ask(COMPLETION).status for _ in range(2)] == [504, 503]


def test_a_name_alone_is_asked_once_and_only_connections_lead_to_another() -> None:
    with gateway(BUSY, WELL, plugins=picking(lambda *_: "main")) as gate:
        assert gate.ask(COMPLETION).status == 429
        assert len(gate.upstream.requests) == 1


def test_an_upstream_that_a_plugin_tried_by_its_name_is_not_tried_by_the_route_again() -> None:
    def choose(_: Call, failures: tuple[Failure, ...]) -> str | None:
        return None if failures else "a"

    plugins = picking(choose)
    with several({"a": None, "b": [WELL]}, {"upstreams": ["a", "b"]}, plugins=plugins) as (gate, _):
        assert gate.ask(COMPLETION).status == 200
        assert kinds(gate) == [("a", "connect")]


def test_a_stream_comes_from_the_upstream_that_answered() -> None:
    events = sse([chunk("b"), chunk("", "stop"), "[DONE]"])
    with several({"a": [BUSY], "b": [events]}, {"upstreams": ["a", "b"], "on": [429]}) as (gate, _):
        answer = gate.ask(STREAMED)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        record = gate.record()
        assert (record.events, record.upstream, record.outcome) == (3, "b", "ok")
