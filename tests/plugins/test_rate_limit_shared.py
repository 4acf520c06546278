"""Several processes share one storage: a file on one machine, or a Redis."""

import fcntl
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import lmdb
import pytest
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from lmdb.verify import verify

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


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep the lock of the file, as another process in a transaction does."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        asked = call(f"{os.getpid()}-{thread}-{number}")  # no two calls share an id
        if not isinstance(limits.admit(asked), Deny):
            os.write(journal, b"+")
            time.sleep(0.005)
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
        assert 2 <= max(inside) <= 5
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
    with held(path):
        with pytest.raises(TimeoutError, match="locked"):
            shared.take([seat()], "one", 60)
        assert not shared.check()
    assert shared.take([seat()], "one", 60)[0].wait == 0


def test_a_transaction_that_fails_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    database = Database(tmp_path / "limits.db")

    def change() -> None:
        with database:
            database.records.put(b"wk", b"")
            database.records.put(b"k" * 512, b"")

    with pytest.raises(lmdb.BadValsizeError):
        change()
    with database:
        assert database.records.get(b"wk") is None


def test_after_a_restart_of_the_machine_time_is_taken_from_the_wall_clock(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    demand = Demand(b"k", 2, 1, 86400.0)
    assert storage(path).take([demand], "one", 60)[0].used == 1
    database = Database.at(path)
    with database:
        assert database._opened is not None
        another = struct.pack("=Bd", 1, database._opened.offset - 1000) + b"another"
        database.records.put(b"clock", another)
    del database
    assert storage(path).take([demand], "two", 60)[0].used == 2


def test_what_nobody_needs_any_more_is_removed(tmp_path: Path) -> None:
    database = Database(tmp_path / "limits.db")
    with database as now:
        for number in range(2500):
            database.records.put(b"w%d" % number, struct.pack("=d", now - 1))
        database.records.put(b"wnew", struct.pack("=d", now + 60))
        database.records.put(b"pk", struct.pack("=d", now - 1))
    for _ in range(3):
        database._swept -= 60
        with database:
            pass
    with database, database.records.cursor() as cursor:
        assert list(cursor.iternext(values=False)) == [b"clock", b"wnew"]


def test_who_is_killed_at_any_instant_leaves_all_of_a_call_or_nothing(tmp_path: Path) -> None:
    script = """
from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Demand
shared = SharedStorage(f"{SCHEME}://{place}")
demands = [Demand(b"%d" % number, 10**9, 1, 3600.0) for number in range(40)]
shared.take(demands, "first", 60)
say("ready")
while True:
    shared.take(demands, "more", 60)
"""
    path = tmp_path / "limits.db"
    chance = random.Random(7)
    for _ in range(6):
        with started(str(path), script, 2) as processes:
            assert {told(process) for process in processes} == {"ready"}
            time.sleep(0.05 + chance.random() / 10)
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait(PATIENCE)
        assert verify(str(path), subdir=False) == []
        shared = storage(path)
        assert len({shared.get(str(number)) for number in range(40)}) == 1
        del shared


def test_a_fork_in_the_middle_of_a_transaction_disturbs_nobody(tmp_path: Path) -> None:
    script = """
from plugins.rate_limit.database import Database
from pathlib import Path
database = Database.at(Path(place))
with database:
    database.records.put(b"wone", b"1")
    child = os.fork()
    if child == 0:
        try:
            with database:
                pass
        except TimeoutError:
            os._exit(9)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    say(os.waitstatus_to_exitcode(status))
if os.fork() == 0:
    with database:
        database.records.put(b"wtwo", database.records.get(b"wone") + b"2")
    os._exit(0)
os.wait()
with database:
    say(database.records.get(b"wtwo").decode())
"""
    with started(str(tmp_path / "limits.db"), script) as (process,):
        # While the parent is in its transaction, the child is kept waiting as anybody else is.
        assert [told(process), told(process)] == ["9", "12"]


def test_all_who_use_a_file_in_one_process_share_it(tmp_path: Path) -> None:
    path, other = tmp_path / "limits.db", tmp_path / "other.db"
    other.symlink_to(path)
    demand = Demand(b"k", 10, 1, 60.0)
    assert [storage(at).take([demand], "c", 60)[0].used for at in (path, other)] == [1, 2]


def test_a_file_that_is_full_refuses_until_something_in_it_is_old(tmp_path: Path) -> None:
    database = Database(tmp_path / "limits.db", most=2**18)

    def fill(begin: int) -> int:
        """Add records that are needed for a moment until no more fit; how many did."""
        for number in range(begin, begin + 1000):
            try:
                with database as now:
                    database.records.put(b"w%d" % number, struct.pack("=d", now + 0.5) + bytes(900))
            except lmdb.MapFullError:
                return number - begin
        return 1000

    assert 100 < fill(0) < 1000
    assert fill(1000) < 3
    time.sleep(0.6)
    database._swept -= 60
    assert fill(2000) > 100
    assert (tmp_path / "limits.db").stat().st_size <= 2**18


def test_a_disk_that_is_full_is_an_outage_and_leaves_what_was_there(tmp_path: Path) -> None:
    script = """
import resource
from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Demand
shared = SharedStorage(f"{SCHEME}://{place}")
shared.take([Demand(b"kept", 10, 1, 3600.0)], "one", 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
for number in range(500):
    try:
        shared.take([Demand(b"%d" % at, 10, 1, 3600.0) for at in range(number * 9, number * 9 + 9)], "c", 60)
    except shared.errors as error:
        say(type(error).__name__)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(shared.take([Demand(b"kept", 10, 1, 3600.0)], "two", 60)[0].used)
"""
    path = tmp_path / "limits.db"
    with started(str(path), script) as (process,):
        assert told(process) in ("DiskError", "Error")
        assert told(process) == "2"
    assert verify(str(path), subdir=False) == []


def test_a_file_that_is_damaged_or_of_another_kind_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    database = Database(path)
    with database:
        for number in range(99):
            database.records.put(b"w%d" % number, bytes(900))
    del database
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[-4096:] = b"?" * 4096
    for found in (bytes(damaged), whole[: len(whole) // 2], b"no such thing" * 999):
        path.write_bytes(found)
        with pytest.raises(lmdb.CorruptedError, match="damaged, or of another kind"):
            storage(path).take([seat()], "two", 60)
        assert path.read_bytes() == found


def test_an_lmdb_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    with (
        lmdb.open(str(path), subdir=False, lock=False) as other,
        other.begin(write=True) as records,
    ):
        records.put(b"somebody's", b"work")
    with pytest.raises(lmdb.InvalidError, match="something else"):
        storage(path).take([seat()], "one", 60)
    with lmdb.open(str(path), subdir=False, lock=False) as other, other.begin() as records:
        assert dict(records.cursor()) == {b"somebody's": b"work"}


def test_a_file_that_is_cut_while_it_is_open_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    shared = storage(path)
    demands = [Demand(b"%d" % number, 9, 1, 3600.0) for number in range(99)]
    shared.take(demands, "one", 60)
    time.sleep(1.1)
    shared.take(demands, "two", 60)
    os.truncate(path, 0)
    time.sleep(1.1)
    assert shared.take(demands, "three", 60)[0].used == 1


def test_names_of_any_length_are_counted_apart(tmp_path: Path) -> None:
    shared = storage(tmp_path / "limits.db")
    long, longer = b"k" * 600, b"k" * 601
    for key in (long, longer):
        demands = [Demand(key, 1, 1, 60.0), seat(key)]
        assert [taken.wait for taken in shared.take(demands, "c" * 700, 60)] == [0, 0]
    shared.settle([Correction(seat(long), 0, 0)], "c" * 700)
    assert shared.take([seat(long)], "d", 60)[0].wait == 0
    assert shared.take([seat(longer)], "d", 60)[0].wait > 0
    # One key begins as the other does.
    assert shared.take([seat(b"a"), seat(b"ab")], "e", 60)[1].wait == 0


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
    with held(path):
        shared.settle([Correction(guess, taken.cell, -80)], "one")
        with pytest.raises(TimeoutError, match="locked"):
            shared.flush()
    shared.flush()
    assert shared.get("k") == 10
