"""Circuit breakers: when an upstream is left alone, and how it comes back."""

import time

import pytest

from proxy import ConfigError
from proxy.breaker import Breakers
from proxy.model import Breaker, Upstream


def breakers(failures: int = 2, seconds: float = 60.0) -> Breakers:
    settings = Breaker(failures=failures, seconds=seconds)
    return Breakers(
        [
            Upstream(name="one", provider="p", base_url="https://one.example", breaker=settings),
            Upstream(name="bare", provider="p", base_url="https://two.example"),
        ]
    )


def test_an_upstream_is_left_alone_after_so_many_failures_in_a_row() -> None:
    circuits = breakers()
    circuits.failed("one", "connect")
    assert circuits.wait("one") == 0.0
    circuits.answered("one", 503)
    assert 50.0 < circuits.wait("one") <= 60.0
    assert circuits.open == 1


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    circuits = breakers()
    for _ in range(5):
        circuits.failed("one", "timeout_first_byte")
        circuits.answered("one", 200)
    assert circuits.wait("one") == 0.0


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 499])
def test_no_callers_error_ever_leaves_an_upstream_alone(status: int) -> None:
    circuits = breakers()
    for _ in range(10):
        circuits.answered("one", status)
    assert circuits.wait("one") == 0.0


@pytest.mark.parametrize("kind", ["client_gone", "deadline", "draining", "redirect", "too_large"])
def test_no_end_that_is_not_the_upstreams_counts(kind: str) -> None:
    circuits = breakers()
    for _ in range(10):
        circuits.failed("one", kind)
    assert circuits.wait("one") == 0.0


def test_one_call_looks_whether_it_is_back_and_the_others_wait() -> None:
    circuits = breakers(failures=1, seconds=0.05)
    circuits.failed("one", "tls")
    time.sleep(0.06)
    assert circuits.wait("one") == 0.0
    assert circuits.wait("one") > 0.0
    circuits.answered("one", 200)
    assert (circuits.wait("one"), circuits.open) == (0.0, 0)


def test_a_look_that_fails_leaves_it_alone_again() -> None:
    circuits = breakers(failures=3, seconds=0.05)
    for _ in range(3):
        circuits.failed("one", "cut")
    time.sleep(0.06)
    assert circuits.wait("one") == 0.0
    circuits.failed("one", "connect")
    assert circuits.wait("one") > 0.0


def test_a_look_whose_caller_hung_up_lets_the_next_one_look() -> None:
    circuits = breakers(failures=1, seconds=0.05)
    circuits.failed("one", "connect")
    time.sleep(0.06)
    assert circuits.wait("one") == 0.0
    circuits.failed("one", "client_gone")
    assert circuits.wait("one") == 0.0


def test_an_upstream_without_a_breaker_is_always_tried() -> None:
    circuits = breakers()
    for _ in range(100):
        circuits.failed("bare", "connect")
    assert circuits.wait("bare") == 0.0


@pytest.mark.parametrize("settings", [{"failures": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_a_breaker_that_could_do_nothing_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="above zero"):
        Breaker(**settings)  # type: ignore[arg-type]
