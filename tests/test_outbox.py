"""What waits is delivered in order once the receiver is back, losses are counted, and a fork takes nothing along."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest

from proxy import Outbox, Undeliverable, Undelivered
from proxy.outbox import flush, totals
from tests.records import PATIENCE, eventually


class Receiver:
    """Takes what is delivered, while ``up``; what is in ``bad`` it never takes."""

    def __init__(self, *, up: bool = True) -> None:
        self.taken: list[bytes] = []
        self.batches: list[int] = []
        self.attempts = 0
        self.bad: set[bytes] = set()
        self.up = threading.Event()
        if up:
            self.up.set()

    def __call__(self, items: Sequence[bytes]) -> None:
        self.attempts += 1
        if not self.up.is_set():
            raise ConnectionRefusedError("nobody is there")
        if self.bad & set(items):
            raise Undeliverable("it has a bad field")
        self.taken += items
        self.batches.append(len(items))


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_items_arrive_in_order_and_in_batches() -> None:
    receiver = Receiver()
    box = Outbox("test", receiver, batch=40)
    for item in numbered(1000):
        box.put(item)
    assert box.flush(PATIENCE)
    assert receiver.taken == numbered(1000)
    assert max(receiver.batches) <= 40
    assert len(receiver.batches) < 200
    assert (box.waiting, box.dropped, box.fault) == (0, 0, None)


def test_what_comes_while_the_receiver_is_away_arrives_later_and_nothing_twice() -> None:
    receiver = Receiver(up=False)
    box = Outbox("test", receiver)
    for item in numbered(10):
        box.put(item)
    eventually(lambda: box.fault)
    assert box.fault == "ConnectionRefusedError: nobody is there"
    assert receiver.taken == []
    receiver.up.set()
    assert box.flush(PATIENCE)
    assert receiver.taken == numbered(10)
    assert box.fault is None


def test_pauses_between_attempts_grow() -> None:
    receiver = Receiver(up=False)
    box = Outbox("test", receiver)
    box.put(b"x")
    eventually(lambda: receiver.attempts >= 2)
    time.sleep(1)
    assert receiver.attempts <= 6
    receiver.up.set()
    assert box.flush(PATIENCE)


def test_who_must_know_is_told_while_the_receiver_is_away_and_no_longer() -> None:
    receiver = Receiver(up=False)
    box = Outbox("test", receiver)
    box.put(b"first", must=True)  # nothing is known against it yet
    eventually(lambda: box.fault)
    with pytest.raises(Undelivered, match="test: ConnectionRefusedError: nobody is there"):
        box.put(b"second", must=True)
    box.put(b"third")
    receiver.up.set()
    assert box.flush(PATIENCE)
    box.put(b"fourth", must=True)
    assert box.flush(PATIENCE)
    assert receiver.taken == [b"first", b"second", b"third", b"fourth"]


def test_what_there_is_no_room_for_is_dropped_and_counted() -> None:
    receiver = Receiver(up=False)
    box = Outbox("test", receiver, most=3)
    before = totals()
    for item in numbered(5):
        box.put(item)
    assert (box.waiting, box.dropped) == (3, 2)
    assert totals()[0] - before[0] == 3
    assert totals()[1] - before[1] == 2
    with pytest.raises(Undelivered, match="more records wait than there is room for"):
        box.put(b"one more", must=True)
    receiver.up.set()
    assert box.flush(PATIENCE)
    assert receiver.taken == numbered(3)


def test_few_large_items_are_too_many_as_well() -> None:
    receiver = Receiver(up=False)
    box = Outbox("test", receiver, most_bytes=100)
    for _ in range(3):
        box.put(b"x" * 40)
    assert (box.waiting, box.dropped) == (2, 1)
    receiver.up.set()
    assert box.flush(PATIENCE)
    box.put(b"x" * 100)
    assert box.flush(PATIENCE)
    assert box.dropped == 1


def test_what_the_receiver_never_takes_costs_no_other_item() -> None:
    receiver = Receiver(up=False)
    receiver.bad = {b"7", b"13"}
    box = Outbox("test", receiver)
    for item in numbered(20):
        box.put(item)
    receiver.up.set()
    assert box.flush(PATIENCE)
    assert receiver.taken == [item for item in numbered(20) if item not in receiver.bad]
    assert box.dropped == 2
    box.put(b"after")
    assert box.flush(PATIENCE)
    assert box.fault is None


def test_an_outage_is_one_line_in_the_log_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    receiver = Receiver(up=False)
    box = Outbox("test", receiver, most=5)
    for item in numbered(50):
        box.put(item)
    eventually(lambda: receiver.attempts >= 2)
    receiver.up.set()
    assert box.flush(PATIENCE)
    eventually(lambda: "work again" in caplog.text)
    lines = [line for line in caplog.messages if line.startswith("test:")]
    assert len(lines) == 2
    assert lines[1] == "test: deliveries work again, 45 were lost"


def test_what_waits_when_the_process_ends_gets_a_last_chance_and_is_told_of_if_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receivers = [Receiver(up=False) for _ in range(2)]
    boxes = [Outbox(f"box{number}", receiver) for number, receiver in enumerate(receivers)]
    for box in boxes:
        box.put(b"last")
        eventually(partial(getattr, box, "fault"))
    receivers[0].up.set()
    started = time.monotonic()
    flush(5)
    assert time.monotonic() - started < 20
    assert receivers[0].taken == [b"last"]
    assert (
        "box1: 1 records were not delivered before the end: ConnectionRefusedError" in caplog.text
    )
    assert "box0: 1 records" not in caplog.text
    boxes[1].put(b"late")  # no attempt any more


def test_a_process_that_ends_delivers_what_it_took() -> None:
    code = """
import sys
from proxy import Outbox
def deliver(items):
    sys.stdout.write("".join(f"{item.decode()} " for item in items))
box = Outbox("test", deliver)
for number in range(5):
    box.put(b"%d" % number)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "2", "3", "4"]


def test_a_forked_process_begins_anew_and_the_parent_loses_nothing() -> None:
    code = """
import os, sys
from proxy import Outbox
def deliver(items):
    os.write(1, "".join(f"{item.decode()}\\n" for item in items).encode())
box = Outbox("test", deliver)
box.put(b"parent 1")
child = os.fork()
box.put(b"child" if child == 0 else b"parent 2")
assert box.flush(30)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split("\n")) == ["", "child", "parent 1", "parent 2"]


def test_many_threads_put_and_nothing_is_lost() -> None:
    receiver = Receiver()
    box = Outbox("test", receiver, most=100_000)

    def put(name: int) -> None:
        for number in range(500):
            box.put(b"%d-%d" % (name, number))

    threads = [threading.Thread(target=put, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert box.flush(PATIENCE)
    assert len(receiver.taken) == len(set(receiver.taken)) == 4000
