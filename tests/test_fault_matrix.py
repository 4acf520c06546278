"""Every fault of an upstream, with retries, fallbacks and weights: so many tries, and none after the first byte."""

import itertools
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.gateway import COMPLETION, REPLY, STREAMED, Answer, chunk, encoded
from tests.several import several
from tests.upstream import (
    Script,
    ScriptedUpstream,
    cut_after,
    json_reply,
    reply,
    rst,
    rst_after,
    slow,
    sse,
)

_KIND: Final = ("content-type", "application/json")
_ERROR: Final = {"error": {"message": "no", "type": "t", "param": None, "code": "theirs"}}
_HEAD: Final = 110
_EVENTS: Final = sse([chunk("Hel"), chunk("lo"), chunk("", "stop"), "[DONE]"])
_STREAM: Final = sse([chunk("good"), chunk("", "stop"), "[DONE]"])
_WHOLE: Final = json_reply(REPLY)


@dataclass(frozen=True)
class Fault:
    """What an upstream does, what that is called, and what the caller gets where nobody is asked instead."""

    script: Script | None
    kind: str
    status: int
    code: str
    retry_after: float | None = None
    #: What a route says to have another try after it.
    goes_on: str = "unanswered"


FAULTS: Final = {
    "429 retry-after": Fault(
        json_reply(_ERROR, 429, [("retry-after", "0")]), "status", 429, "theirs", 0.0, "on"
    ),
    "429 retry-after-ms": Fault(
        json_reply(_ERROR, 429, [("retry-after-ms", "30"), ("retry-after", "60")]),
        "status", 429, "theirs", 0.03, "on",
    ),
    "500": Fault(json_reply(_ERROR, 500), "status", 500, "theirs", goes_on="on"),
    "refused": Fault(None, "connect", 502, "upstream_error", goes_on="always"),
    "reset before headers": Fault(rst(), "cut", 502, "upstream_truncated"),
    "reset after headers": Fault(
        rst_after(_HEAD, reply(200, [_KIND], encoded(REPLY))), "cut", 502, "upstream_truncated"
    ),
    "slow headers": Fault(
        slow(json_reply(REPLY), gap=0.05, piece=10), "timeout_first_byte", 504, "upstream_timeout"
    ),
    "cut whole body": Fault(
        cut_after(_HEAD, reply(200, [_KIND], encoded(REPLY))), "cut", 502, "upstream_truncated"
    ),
}  # fmt: skip
ROUTES: Final[dict[str, dict[str, Any]]] = {
    "retry": {"upstreams": ["bad"], "retry": {"attempts": 2, "base": 0.01}},
    "fallback": {"upstreams": ["bad", "good"]},
    # Nobody has a draw of one in 1e12, so the bad one is always asked first.
    "balance": {
        "strategy": "balance",
        "upstreams": [{"upstream": "bad", "weight": 1e9}, {"upstream": "good", "weight": 1e-9}],
    },
}
TIMEOUTS: Final = {"bad": {"timeouts": {"first_byte": 0.2}}}


def route(strategy: str, fault: Fault | None, *, goes_on: bool) -> dict[str, Any]:
    """The route, with what it takes to go on after this fault; or with everything but that."""
    said = dict(ROUTES[strategy])
    wanted = (fault is not None and fault.goes_on == "on") is goes_on
    statuses = [429, 500] if wanted else []
    if strategy == "retry":
        said["retry"] = {**said["retry"], "on": statuses}
    elif statuses:
        said["on"] = statuses
    if (fault is not None and fault.goes_on == "unanswered") is goes_on:
        said["unanswered"] = True
    return said


def tried(servers: dict[str, ScriptedUpstream]) -> list[int]:
    """How many requests the bad one and the good one got."""
    return [len(servers[name].requests) if name in servers else 0 for name in ("bad", "good")]


def good(answer: Answer, *, streamed: bool) -> bool:
    if streamed:
        return b"good" in answer.body and answer.body.endswith(b"data: [DONE]\n\n")
    return bool(answer.json() == REPLY)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("strategy", "name"), list(itertools.product(ROUTES, FAULTS)))
def test_after_a_fault_before_the_first_byte_there_is_exactly_one_more_try(
    strategy: str, name: str, streamed: bool
) -> None:
    fault, well = FAULTS[name], _STREAM if streamed else _WHOLE
    scripts = None if fault.script is None else [fault.script, well]
    said = route(strategy, fault, goes_on=True)
    with several({"bad": scripts, "good": [well]}, said, settings=TIMEOUTS) as (gate, servers):
        answer = gate.ask(STREAMED if streamed else COMPLETION)
        record = gate.record()
    first = record.failures[0]
    assert (first.upstream, first.kind, first.target) == ("bad", fault.kind, "0")
    assert (first.status, first.retry_after) == (
        fault.status if fault.goes_on == "on" else None, fault.retry_after,
    )  # fmt: skip
    assert record.attempts == 2
    by = "bad" if strategy == "retry" else "good"
    if strategy == "retry" and fault.script is None:
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert [failure.kind for failure in record.failures] == ["connect", "connect"]
        return
    assert tried(servers) == [
        (2 if strategy == "retry" else 1) if fault.script else 0,
        1 if strategy != "retry" else 0,
    ]
    assert good(answer, streamed=streamed)
    assert (record.outcome, record.upstream, len(record.failures)) == ("ok", by, 1)
    assert answer.header("x-outgate-upstream") == by
    assert answer.header("x-outgate-attempts") == "2"
    if fault.retry_after and strategy == "retry":
        assert record.seconds >= fault.retry_after


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("strategy", "name"), [(s, n) for s, n in itertools.product(ROUTES, FAULTS) if n != "refused"]
)
def test_a_fault_that_the_route_does_not_name_is_the_answer(
    strategy: str, name: str, streamed: bool
) -> None:
    fault, well = FAULTS[name], _STREAM if streamed else _WHOLE
    assert fault.script
    said = route(strategy, fault, goes_on=False)
    scripts = {"bad": [fault.script, well], "good": [well]}
    with several(scripts, said, settings=TIMEOUTS) as (gate, servers):
        answer = gate.ask(STREAMED if streamed else COMPLETION)
        record = gate.record()
        assert tried(servers) == [1, 0]
    assert (answer.status, answer.error["code"]) == (fault.status, fault.code)
    assert (record.attempts, record.upstream, record.outcome) == (1, "bad", "upstream_error")


@pytest.mark.parametrize("strategy", ROUTES)
@pytest.mark.parametrize("end", ["reset", "cut"])
def test_a_stream_that_breaks_after_its_first_byte_is_never_tried_again(
    strategy: str, end: str
) -> None:
    cutting = rst_after if end == "reset" else cut_after
    said = {**route(strategy, None, goes_on=False), "unanswered": True}
    scripts = {"bad": [cutting(300, _EVENTS), _STREAM], "good": [_STREAM]}
    with several(scripts, said) as (gate, servers):
        answer = gate.ask(STREAMED)
        record = gate.record()
        assert tried(servers) == [1, 0]
    assert answer.status == 200
    assert b"Hel" in answer.body
    assert b"good" not in answer.body
    assert b"[DONE]" not in answer.body
    assert (record.outcome, record.attempts, len(record.failures)) == ("truncated", 1, 1)


@pytest.mark.parametrize("strategy", ROUTES)
def test_an_upstream_that_falls_silent_in_a_whole_body_is_a_fault_before_the_first_byte(
    strategy: str,
) -> None:
    said = {**ROUTES[strategy], "unanswered": True}
    halting = slow(json_reply(REPLY), gap=0.4, piece=200)
    settings = {"bad": {"timeouts": {"idle": 0.1}}}
    scripts = {"bad": [halting, _WHOLE], "good": [_WHOLE]}
    with several(scripts, said, settings=settings) as (gate, _):
        assert gate.ask(COMPLETION).json() == REPLY
        assert [failure.kind for failure in gate.record().failures] == ["timeout_idle"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("strategy", ROUTES)
def test_when_all_tries_fail_the_last_answer_is_passed_on_as_it_is(
    strategy: str, streamed: bool
) -> None:
    last = json_reply({"error": {"message": "last"}}, 503, [("retry-after", "0")])
    first = json_reply({"error": {"message": "first"}}, 500)
    said = route(strategy, FAULTS["500"], goes_on=True)
    if strategy == "retry":
        said["retry"]["on"] = [500, 503]
        scripts = {"bad": [first, last], "good": [_WHOLE]}
    else:
        scripts = {"bad": [first], "good": [last]}
    with several(scripts, said) as (gate, servers):
        answer = gate.ask(STREAMED if streamed else COMPLETION)
        record = gate.record()
        assert tried(servers) == ([2, 0] if strategy == "retry" else [1, 1])
    assert (answer.status, answer.json()) == (503, {"error": {"message": "last"}})
    assert answer.header("retry-after") == "0"
    assert (record.upstream_status, record.attempts, len(record.failures)) == (503, 2, 1)
