"""A tree of targets is refused where it could do nothing, or something nobody meant."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy import Balance, ConfigError, Fallback, Retry, Target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(attempts=0), "write 1 for one try"),
        (lambda: Retry(base=-1.0), "base = -1.0: write seconds, 0 or more"),
        (lambda: Retry(most=float("inf")), "most = inf"),
        (lambda: Retry(patience=float("nan")), "patience = nan"),
        (lambda: Retry(on=frozenset({200})), "retry: on holds 200: write statuses of errors"),
        (lambda: Fallback((Target("a"),), on=frozenset({302})), "fallback: on holds 302"),
        (lambda: Balance(((1.0, Target("a")),), on=frozenset({600})), "balance: on holds 600"),
        (lambda: Fallback(()), "at least one way"),
        (lambda: Balance(()), "every weight is 0"),
        (lambda: Balance(((0, Target("a")), (0.0, Target("b")))), "every weight is 0"),
        (lambda: Balance(((-1, Target("a")),)), r"weights \[-1\]"),
        (lambda: Balance(((float("inf"), Target("a")),)), r"weights \[inf\]"),
        (lambda: Target("a", body={"messages": []}), "sets 'messages'"),
        (lambda: Target("a", body={"stream": True}), "sets 'stream'"),
        (lambda: Target("a", timeout=0.0), "timeout = 0.0: write seconds above zero"),
        (lambda: Target("a", timeout=float("nan")), "timeout = nan"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_what_a_target_says_of_the_body_cannot_be_changed_later() -> None:
    given: dict[str, Any] = {"model": "small", "stop": ["a"]}
    target = Target("a", body=given)
    given["stop"].append("b")
    given["model"] = "large"
    assert target.body == {"model": "small", "stop": ["a"]}
    with pytest.raises(TypeError):
        target.body["model"] = "large"  # type: ignore[index]


def test_a_tree_is_a_value_that_can_be_compared_and_nested_freely() -> None:
    inner = Balance(((1, Target("a")), (2.5, Fallback((Target("b"), Target("c"))))))
    assert Fallback((inner, Target("d"))) == Fallback((inner, Target("d")))
