import threading
import time

import pytest

from proxy.errors import ApiError
from proxy.gate import WORTH_STARTING, Gate
from proxy.steps import Running, Step


def gate(capacity: int = 2, *, hung_hooks: int = 1) -> tuple[Gate, Running]:
    running = Running()
    return Gate(capacity, running, hung_hooks), running


def refusal(closed: Gate) -> ApiError:
    with pytest.raises(ApiError) as error:
        closed.enter()
    assert error.value.status == 503
    assert error.value.headers()["retry-after"]
    return error.value


def test_calls_above_capacity_are_refused_at_once_and_a_place_can_be_given_back() -> None:
    full, _ = gate()
    full.enter()
    full.enter()
    assert refusal(full).code == "overloaded"
    full.leave()
    full.enter()
    assert full.inside == 2
    assert full.obstacles() == []


def test_many_threads_never_exceed_the_capacity() -> None:
    tight, _ = gate(3)
    most = 0

    def visit() -> None:
        nonlocal most
        for _ in range(200):
            try:
                tight.enter()
            except ApiError:
                continue
            most = max(most, tight.inside)
            tight.leave()

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tight.inside, most <= 3) == (0, True)


def test_a_required_log_that_fails_closes_the_gate_until_it_takes_a_record() -> None:
    guarded, _ = gate()
    guarded.told({"audit": False, "copy": True})
    assert refusal(guarded).code == "log_unavailable"
    assert guarded.obstacles() == ["required log audit fails"]
    guarded.told({"audit": True})
    guarded.enter()


def test_the_shortest_drain_counts_and_closes_the_gate() -> None:
    closing, _ = gate()
    until = closing.drain(WORTH_STARTING - 1)
    assert closing.drain(60) == until
    assert closing.drain(0) < until
    assert refusal(closing).code == "draining"
    assert closing.obstacles() == ["draining"]


def test_a_call_that_has_time_enough_is_let_in_while_draining() -> None:
    closing, _ = gate()
    closing.drain(WORTH_STARTING + 60)
    closing.enter()
    assert closing.obstacles() == ["draining"]


def test_hooks_that_hang_make_the_process_unready() -> None:
    watched, running = gate(hung_hooks=1)
    slow = Step(plugin="slow", hook="guard_request", function=print, arguments=(), deadline=5)
    running.inside[threading.get_ident()] = (slow, time.monotonic() - 6)
    assert watched.obstacles() == ["hooks hang: slow"]
    running.inside.clear()
    assert watched.obstacles() == []
