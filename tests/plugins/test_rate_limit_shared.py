"""Several processes share one storage: a file on one machine, or a Redis."""

import signal
import sqlite3
import threading
import time
from itertools import accumulate
from pathlib import Path

import pytest
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from plugins.rate_limit.database import Database
from plugins.rate_limit.holders import Holder
from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Correction, Demand
from tests.plugins.limit_processes import started, tell, together, told

PATIENCE = 30.0


@pytest.fixture(params=["file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the counters are, as the processes are told it."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(tmp_path / "limits.db")


def storage(path: Path) -> SharedStorage:
    return SharedStorage(f"{SCHEME}://{path}")


def seat(key: bytes = b"k", limit: int = 1) -> Demand:
    return Demand(key, limit)


# -- several processes -----------------------------------------------------------------------------


def test_eight_processes_together_let_exactly_the_limit_through(place: str) -> None:
    script = """
limits = limiter({"per": "key", "requests": "100/hour"}, {"per": "all", "tokens": "100000/hour"})
say("ready"), input()
say(sum(not isinstance(limits.admit(call(number)), Deny) for number in range(40)))
"""
    with started(place, script, 8) as processes:
        passed = [int(line) for line in together(processes)]
    assert sum(passed) == 100


def test_threads_and_processes_never_hold_more_places_than_there_are(
    place: str, tmp_path: Path
) -> None:
    script = """
import threading
limits = limiter({"per": "key", "concurrent": 5})
journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def work(thread):
    for number in range(25):
        asked = call(f"{thread}-{number}")
        if not isinstance(limits.admit(asked), Deny):
            os.write(journal, b"+")
            time.sleep(0.002)
            os.write(journal, b"-")
            limits.log_exchange(over(asked))
say("ready"), input()
threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
say("done"), input()
say(sum(not isinstance(limits.admit(call(number)), Deny) for number in range(9)))
input()
"""
    journal = tmp_path / "journal"
    with started(place, script, 2, JOURNAL=str(journal)) as processes:
        together(processes)
        inside = list(accumulate(1 if mark == "+" else -1 for mark in journal.read_text()))
        assert max(inside) == 5
        assert inside[-1] == 0
        # All places are free again, and one process takes every one of them.
        tell(processes[0])
        assert told(processes[0]) == "5"
        tell(processes[1])
        assert told(processes[1]) == "0"


HOLDS = """
limits = limiter({"per": "key", "concurrent": 3}, lease=1.0)
say(sum(not isinstance(limits.admit(call(number)), Deny) for number in range(4)))
input()
"""


def test_the_places_of_a_killed_process_come_back(place: str) -> None:
    with started(place, HOLDS) as (victim,), started(place, HOLDS) as (other,):
        counts = sorted([told(victim), told(other)])
        assert counts[0] != counts[1]
        assert sum(map(int, counts)) == 3
        victim.send_signal(signal.SIGKILL)
        other.send_signal(signal.SIGKILL)
        victim.wait(PATIENCE)
        other.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        got = 0
        while got < 3 and time.monotonic() < deadline:
            with started(place, HOLDS) as (heir,):
                got = int(told(heir))
        assert got == 3


def test_a_living_process_keeps_its_places_beyond_the_lease(place: str) -> None:
    with started(place, HOLDS) as (holder,):
        assert told(holder) == "3"
        time.sleep(2.5)
        with started(place, HOLDS) as (other,):
            assert told(other) == "0"


def test_a_fork_of_a_process_counts_as_one_of_its_own(place: str) -> None:
    script = """
limits = limiter({"per": "key", "concurrent": 3, "requests": "4/hour"}, lease=1.0)
first = call("first")
limits.admit(first)
child = os.fork()
if child == 0:
    held = sum(not isinstance(limits.admit(call(number)), Deny) for number in range(5))
    os._exit(held)
_, status = os.waitpid(child, 0)
say(os.waitstatus_to_exitcode(status))
deadline = time.monotonic() + 20
asked = [call(f"later-{number}") for number in range(9)]
while time.monotonic() < deadline and isinstance(limits.admit(asked[0]), Deny):
    time.sleep(0.1)
say(time.monotonic() < deadline)
"""
    with started(place, script) as (process,):
        assert told(process) == "2"
        # The child is gone, and with it its places; of the four requests one is left.
        assert told(process) == "True"


def test_no_jump_of_the_wall_clock_opens_or_closes_a_window(place: str) -> None:
    script = """
real = time.time
jump = float(os.environ.get("JUMP", "0"))
time.time = lambda: real() + jump
limits = limiter({"per": "key", "requests": "2/day"})
say(not isinstance(limits.admit(call(0)), Deny))
"""
    lines = []
    for jump in ("0", "864000", "-864000"):
        with started(place, script, JUMP=jump) as (process,):
            lines.append(told(process))
    assert lines == ["True", "True", "False"]


# -- the file --------------------------------------------------------------------------------------


def test_all_of_the_demands_are_taken_or_none(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    demands = [Demand(b"a", 10, 1, 60.0), Demand(b"b", 1, 1, 60.0), seat(b"c", 5)]
    assert [taken.wait for taken in shared.take(demands, "one", 60)] == [0, 0, 0]
    again = shared.take(demands, "two", 60)
    assert again[1].wait > 0
    assert [taken.used for taken in shared.take([demands[0], demands[2]], "three", 60)] == [2, 2]


def test_a_place_is_free_at_the_latest_when_its_call_must_be_over(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    assert shared.take([seat()], "one", 0.2)[0].wait == 0
    assert shared.take([seat()], "two", 0.2)[0].wait > 0
    time.sleep(0.25)
    assert shared.take([seat()], "three", 0.2)[0].wait == 0


def test_a_place_that_is_left_twice_is_free_once(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    shared.take([seat()], "one", 60)
    for _ in range(2):
        shared.settle([Correction(seat(), 0, 0)], "one")
    assert shared.take([seat()], "two", 60)[0].wait == 0
    shared.settle([Correction(seat(), 0, 0)], "one")
    assert shared.take([seat()], "three", 60)[0].wait > 0


def test_who_is_kept_waiting_too_long_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    shared = storage(path)
    assert shared.check()
    blocker = sqlite3.connect(path, isolation_level=None)
    try:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            shared.take([seat()], "one", 60)
        assert not shared.check()
        blocker.execute("COMMIT")
        assert shared.take([seat()], "one", 60)[0].wait == 0
    finally:
        blocker.close()


def test_a_transaction_that_fails_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    database = Database(tmp_path / "limits.db")

    def change() -> None:
        with database:
            database.run("INSERT INTO windows VALUES (?, ?, ?, ?)", b"k", b"", 1.0, 1.0)
            database.run("no statement")

    with pytest.raises(sqlite3.OperationalError):
        change()
    with database:
        assert database.run("SELECT COUNT(*) FROM windows").fetchone() == (0,)


def test_after_a_restart_of_the_machine_time_is_taken_from_the_wall_clock(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    demand = Demand(b"k", 2, 1, 86400.0)
    assert storage(path).take([demand], "one", 60)[0].used == 1
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE clock SET boot = 'another', offset = offset - 1000")
    connection.close()
    assert storage(path).take([demand], "two", 60)[0].used == 2


def test_what_nobody_needs_any_more_is_removed(tmp_path: Path) -> None:
    database = Database(tmp_path / "limits.db")
    with database as now:
        for number in range(700):
            database.run(
                "INSERT INTO windows VALUES (?, ?, ?, ?)", b"%d" % number, b"", 1.0, now - 1
            )
        database.run("INSERT INTO windows VALUES (?, ?, ?, ?)", b"new", b"", 1.0, now + 60)
        database.run("INSERT INTO places VALUES (?, ?, ?, ?)", b"k", "c", "h", now - 1)
    for _ in range(2):
        opened = database._opened
        assert opened is not None
        opened.swept -= 60
        with database:
            pass
    with database:
        assert database.run("SELECT key FROM windows").fetchall() == [(b"new",)]
        assert database.run("SELECT * FROM places").fetchall() == []


def test_many_threads_that_begin_at_once_open_one_file(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    results: list[bool] = []

    def work(number: int) -> None:
        taken = shared.take([Demand(b"k", 50, 1, 3600.0)], str(number), 60)
        results.append(taken[0].wait == 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 14 + [True] * 50


def test_a_holder_is_alive_until_its_process_or_itself_is_gone(tmp_path: Path) -> None:
    beside = tmp_path / "limits.db"
    one, two = Holder(beside), Holder(beside)
    assert one.is_alive(one.name)
    assert one.is_alive(two.name)
    assert not one.is_alive("0123456789abcdef")
    name = two.name
    (tmp_path / f"limits.db-holder-{name}").touch()
    del two
    assert not one.is_alive(name)
    one.touch()
    assert [file.name for file in tmp_path.iterdir()] == [f"limits.db-holder-{one.name}"]


# -- the library's own strategies --------------------------------------------------------------------


def test_the_strategies_of_the_library_work_on_the_file(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    item = RateLimitItemPerMinute(3)
    moving = MovingWindowRateLimiter(shared)
    assert [moving.hit(item, "a") for _ in range(4)] == [True] * 3 + [False]
    assert not moving.test(item, "a")
    assert moving.test(item, "b")
    reset, left = moving.get_window_stats(item, "a")
    assert (left, 50 < reset - time.time() < 62) == (0, True)
    assert moving.get_window_stats(item, "nobody").remaining == 3
    moving.clear(item, "a")
    assert moving.hit(item, "a")
    fixed = FixedWindowRateLimiter(shared)
    assert [fixed.hit(item, "c", cost=2) for _ in range(2)] == [True, False]
    assert 50 < fixed.get_window_stats(item, "c").reset_time - time.time() < 62
    assert shared.get("nobody") == 0
    assert shared.get_expiry("nobody") <= time.time()
    assert shared.reset() == 2
    assert shared.get("LIMITER/c/3/1/minute") == 0


# -- what is known when a call is over ---------------------------------------------------------------


def test_a_correction_goes_with_the_next_call_of_the_process(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    guess = Demand(b"k", 100, 90, 60.0)
    (taken,) = shared.take([guess], "one", 60)
    shared.settle([Correction(guess, taken.cell, -80)], "one")
    assert shared.take([guess], "two", 60)[0].used == 100


def test_a_correction_is_made_by_itself_when_no_call_comes(tmp_path: Path) -> None:
    shared, other = storage(tmp_path / "limits.db"), storage(tmp_path / "limits.db")
    guess = Demand(b"k", 100, 90, 60.0)
    (taken,) = shared.take([guess], "one", 60)
    shared.settle([Correction(guess, taken.cell, -90)], "one")
    deadline = time.monotonic() + 60
    while other.get("k"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_that_is_refused_takes_nothing_and_writes_what_is_corrected(tmp_path: Path) -> None:
    shared, other = storage(tmp_path / "limits.db"), storage(tmp_path / "limits.db")
    fits, too_much = Demand(b"k", 100, 50, 60.0), Demand(b"l", 10, 11, 60.0)
    (taken,) = shared.take([fits], "one", 60)
    shared.settle([Correction(fits, taken.cell, -20)], "one")
    assert [each.wait > 0 for each in shared.take([fits, too_much], "two", 60)] == [False, True]
    assert (other.get("k"), other.get("l")) == (30, 0)


def test_corrections_wait_for_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    shared = storage(path)
    guess = Demand(b"k", 100, 90, 60.0)
    (taken,) = shared.take([guess], "one", 60)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    shared.settle([Correction(guess, taken.cell, -80)], "one")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        shared.flush()
    blocker.execute("COMMIT")
    blocker.close()
    shared.flush()
    assert shared.get("k") == 10
