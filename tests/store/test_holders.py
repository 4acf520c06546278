import os
import subprocess
import sys
import threading

from proxy.store.holders import Heartbeat, Holder, Watch, host, myself, started

LEASE = 10.0


def elsewhere(beat: int = 0) -> Holder:
    return Holder("other", "another host", 1, 1, beat)


def test_a_counter_that_stands_still_for_the_lease_is_dead_and_one_that_moves_is_not() -> None:
    watch = Watch(LEASE)
    for second in range(0, 10, 2):
        assert watch.dead([elsewhere()], second) == []
    assert watch.dead([elsewhere()], 10) == [elsewhere()]
    assert watch.dead([elsewhere(1)], 11) == []
    assert watch.dead([elsewhere(1)], 20) == []


def test_who_slept_itself_does_not_take_others_for_dead() -> None:
    watch = Watch(LEASE)
    assert watch.dead([elsewhere()], 0) == []
    # An hour later both wake up; the other had no chance to beat.
    assert watch.dead([elsewhere()], 3600) == []
    assert watch.dead([elsewhere(1)], 3601) == []


def test_a_clock_that_runs_backwards_takes_nobody_for_dead() -> None:
    watch = Watch(LEASE)
    for second in (1000, 0, 2, 4, 6, 8):
        assert watch.dead([elsewhere()], second) == []


def test_on_the_same_host_a_process_that_ended_is_dead_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        living = Holder("child", host(), child.pid, started(child.pid))
        assert living.started > 0
        assert Watch(LEASE).dead([living], 0) == []
        child.kill()
    assert Watch(LEASE).dead([living], 0) == [living]
    # The number may have been given to another process since.
    reused = Holder("child", host(), os.getpid(), living.started)
    assert Watch(LEASE).dead([reused], 0) == [reused]


def test_a_process_that_ended_but_was_not_asked_for_yet_is_dead_too() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Watch(LEASE).dead([Holder("child", host(), child.pid, 1)], 0)


def test_a_process_knows_itself_and_has_an_id_of_its_own_each_time() -> None:
    one, other = myself(), myself()
    assert one.id != other.id
    assert (one.pid, one.host) == (os.getpid(), host())
    assert one.started == started(os.getpid()) > 0


def test_the_heart_beats_until_it_is_stopped() -> None:
    beats = threading.Semaphore(0)
    heart = Heartbeat(0.01, beats.release)
    heart.start()
    for _ in range(3):
        assert beats.acquire(timeout=30)
    heart.stop()
    while beats.acquire(blocking=False):
        pass
    assert not beats.acquire(timeout=0.05)
