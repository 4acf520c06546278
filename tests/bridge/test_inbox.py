"""What the threads of a call say to each other."""

import threading

import pytest

from proxy.bridge.inbox import Closed, Inbox


def test_items_come_out_in_the_order_they_went_in() -> None:
    inbox: Inbox[int] = Inbox(3)
    assert all(inbox.put(number) for number in range(3))
    assert [inbox.get() for _ in range(3)] == [0, 1, 2]


def test_who_finds_no_room_waits_for_it() -> None:
    inbox: Inbox[int] = Inbox(1)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.extend(inbox.put(number) for number in range(50)))
    thread.start()
    assert [inbox.get() for _ in range(50)] == list(range(50))
    thread.join(30)
    assert done == [True] * 50


def test_closing_lets_go_of_everyone() -> None:
    inbox: Inbox[int] = Inbox(1)
    inbox.put(1)
    told: list[bool] = []
    putting = threading.Thread(target=lambda: told.append(inbox.put(2)))
    putting.start()
    assert inbox.close() == [1]
    putting.join(30)
    assert told == [False]
    with pytest.raises(Closed):
        inbox.get()
