"""A call that is asked about again holds what it is sent as now, and nothing twice."""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit import RateLimit
from plugins.rate_limit.grants import Grant, Held, change
from plugins.rate_limit.rules import Claim, Limit, Rule
from plugins.rate_limit.window import Demand, Taken
from proxy import Admission, Call, Deny, Principal, Record, Secret, Usage
from proxy.frozen import freeze

Limiter = Callable[..., RateLimit]
_numbers: Final = itertools.count()


@pytest.fixture(params=["file", "redis"])
def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> Limiter:
    where: dict[str, Any] = {"path": str(tmp_path / "limits.db")}
    if request.param == "redis":
        where = {"redis": Secret(request.getfixturevalue("redis_url"))}
    return lambda *rules: RateLimit(rules=tuple(Rule(**rule) for rule in rules), **where)


def call(number: Any, model: str = "m", **body: Any) -> Call:
    body = {"model": model, "prompt": "Hello", **body}
    return Call(
        id=f"call-{number}", endpoint="completions", body=freeze(body), model=model,
        principal=Principal("ci"), deadline=time.monotonic() + 900,
    )  # fmt: skip


def end(limits: RateLimit, number: Any, tokens: int = 0) -> None:
    usage = Usage(0, tokens, tokens)
    limits.log_exchange(
        Record(
            id=f"call-{number}", time="", endpoint="completions", outcome="ok", status=200,
            seconds=0, upstream_status=200, usage=usage,
        )
    )  # fmt: skip


def passes(limits: RateLimit, asked: Call) -> bool:
    return not isinstance(limits.admit(asked), Deny)


def left(answer: Admission | Deny | None, kind: str) -> int:
    assert isinstance(answer, Admission)
    return int(answer.reply_headers[f"x-ratelimit-remaining-{kind}"])


def test_a_call_counts_as_one_request_however_often_it_is_asked_about(limiter: Limiter) -> None:
    limits = limiter({"per": "key", "requests": "3/hour"})
    first = limits.admit(call(1))
    for seed in range(4):
        assert left(limits.admit(call(1, seed=seed)), "requests") == left(first, "requests") == 2
    end(limits, 1)
    assert [passes(limits, call(number)) for number in (2, 3, 4)] == [True, True, False]


def test_tokens_are_those_of_the_body_that_is_sent(limiter: Limiter) -> None:
    limits = limiter({"per": "all", "tokens": "1000/hour"})
    for most, remaining in ((100, 898), (400, 598), (50, 948), (300, 698)):
        limits.admit(call(1, max_tokens=most))
        probe = limits.admit(call("probe", max_tokens=1))
        assert left(probe, "tokens") == remaining - 3
        end(limits, "probe")
    end(limits, 1, tokens=70)
    assert left(limits.admit(call(2, max_tokens=1)), "tokens") == 930 - 3


def test_the_model_that_is_sent_counts_and_the_former_one_no_longer(limiter: Limiter) -> None:
    limits = limiter({"per": "model", "requests": "2/hour", "tokens": "1000/hour"})
    assert passes(limits, call(1, "small"))
    assert passes(limits, call(1, "large", max_tokens=500))
    end(limits, 1, tokens=600)
    answer = limits.admit(call(2, "small", max_tokens=1))
    assert (left(answer, "requests"), left(answer, "tokens")) == (1, 997)
    answer = limits.admit(call(3, "large", max_tokens=1))
    assert (left(answer, "requests"), left(answer, "tokens")) == (0, 397)


def test_there_and_back_again_is_as_if_nothing_had_been(limiter: Limiter) -> None:
    limits = limiter({"per": "model", "requests": "1/hour", "tokens": "20/hour", "concurrent": 1})
    for model in ("a", "b", "a", "c", "a"):
        assert passes(limits, call(1, model))
    assert passes(limits, call(2, "b"))
    assert passes(limits, call(3, "c"))
    assert not passes(limits, call(4, "a"))


def test_a_place_is_held_once_and_left_once(limiter: Limiter) -> None:
    limits = limiter({"per": "key", "concurrent": 2}, {"per": "model", "concurrent": 1})
    assert passes(limits, call(1, "a"))
    assert passes(limits, call(1, "a", seed=1))
    assert passes(limits, call(1, "b"))
    assert passes(limits, call(2, "a"))
    assert not passes(limits, call(3, "c"))
    end(limits, 1)
    assert not passes(limits, call(4, "a"))
    assert passes(limits, call(4, "b"))
    end(limits, 2)
    end(limits, 4)
    assert passes(limits, call(5, "a"))


def test_a_refusal_leaves_what_was_granted_before_until_the_call_is_over(limiter: Limiter) -> None:
    rules = {"per": "model", "requests": "1/hour", "concurrent": 1}
    limits = limiter(rules, {"per": "all", "tokens": "100/hour"})
    assert passes(limits, call(1, "a", max_tokens=10))
    assert passes(limits, call(2, "b", max_tokens=10))
    assert not passes(limits, call(1, "b", max_tokens=10))
    assert not passes(limits, call(3, "a", max_tokens=10))
    end(limits, 1)
    answer = limits.admit(call(4, "c", max_tokens=10))
    assert left(answer, "tokens") == 100 - 2 * 12


def test_more_than_there_ever_is_is_refused_for_good(limiter: Limiter) -> None:
    limits = limiter({"per": "all", "tokens": "100/hour"})
    assert passes(limits, call(1, max_tokens=60))
    refused = limits.admit(call(1, max_tokens=200))
    assert isinstance(refused, Deny)
    assert "it may use 202 tokens, and the limit is 100 tokens" in refused.message
    assert "retry-after" not in refused.headers


def test_what_no_rule_counts_any_more_is_given_back(limiter: Limiter) -> None:
    limits = limiter({"per": "model", "match": ["dear"], "requests": "1/hour", "concurrent": 1})
    assert passes(limits, call(1, "dear"))
    assert passes(limits, call(1, "cheap"))
    assert passes(limits, call(2, "dear"))


# -- any order -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 60), st.booleans()), max_size=25))
def test_in_the_end_what_counts_is_what_was_used(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"limits-{next(_numbers)}.db"
    limits = RateLimit(rules=(Rule("all", tokens="100/day"),), path=str(folder))
    held: dict[int, int] = {}
    used = 0
    for number, most, is_over in steps:
        if is_over:
            used += held.pop(number, 0) and most
            end(limits, number, most)
            continue
        fits = used + sum(held.values()) - held.get(number, 0) + most + 2 <= 100
        more = most + 2 > held.get(number, 0)
        # What shrinks is never refused, however much others used beyond what was guessed.
        assert passes(limits, call(number, max_tokens=most)) == (fits or not more)
        if fits or not more:
            held[number] = most + 2
    for number in held:
        end(limits, number)
    limits._storage.flush()  # type: ignore[union-attr]
    answer = limits.admit(call("last", max_tokens=1))
    total = used + 3
    assert left(answer, "tokens") == 100 - total if total <= 100 else isinstance(answer, Deny)


def claim(amount: int, kind: Any = "tokens") -> Claim:
    (limit,) = Rule("all", tokens="100/hour").limits()
    assert isinstance(limit, Limit)
    return Claim(limit, "", Demand(b"k", 100, amount, 3600.0))


def test_out_of_a_cell_goes_what_was_put_there_and_the_latest_first() -> None:
    held = Held(claim(30), Taken(0.0, 30), ((7, 10), (8, 15), (9, 5)))
    assert [(each.cell, each.excess) for each in held.back(12)] == [(9, -5), (8, -7)]
    assert held.less(12).parts == ((7, 10), (8, 8))
    assert held.less(30).parts == ()
    grant = Grant({b"k": held}, prompt=3, estimated=30)
    assert [each.excess for each in grant.settled(31)] == [1]
    assert grant.settled(30) == []
    assert sum(each.excess for each in grant.settled(0)) == -30


def test_only_what_is_missing_is_demanded() -> None:
    held = Held(claim(30), Taken(0.0, 30), ((7, 30),))
    wanted = change(Grant({b"k": held}, 3, 30), [claim(120)])
    assert [demand.amount for demand in wanted.demands] == [90]
    assert wanted.back == []
    ((_, taken),) = wanted.outcomes([Taken(60.0, 30)])
    assert math.isinf(taken.wait)
