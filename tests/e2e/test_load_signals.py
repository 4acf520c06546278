"""What a restart, a stop, a crash and an overload do to the calls under way."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.e2e.load import (
    Caller,
    Stream,
    ask,
    begun,
    call,
    eventually,
    get,
    receive,
    running_upstream,
    workers,
)
from tests.e2e.stack import PATIENCE, SECRETS, Stack, configuration, running_stack

pytestmark = pytest.mark.alone

Start = Callable[..., AbstractContextManager[Stack]]

#: Streams are ended three seconds before gunicorn's patience does, so after four.
DRAIN_SECONDS = 7
SHORT, LONG = "stream-20-100", "stream-2000-100"


@pytest.fixture
def start(need_nginx: None, tmp_path: Path) -> Iterator[Start]:
    """Starts the proxy in front of an upstream for load; both go on until the test ends."""
    with running_upstream(tmp_path) as upstream:
        config = configuration({"load": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")

        def started(threads: int, seconds: int = DRAIN_SECONDS) -> AbstractContextManager[Stack]:
            environment = {**SECRETS, "OUTGATE_DRAIN_SECONDS": str(seconds)}
            return running_stack(tmp_path, config, threads=threads, environment=environment)

        yield started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
def test_streams_under_way_complete_or_end_with_an_error_event(
    start: Start, number: signal.Signals
) -> None:
    def interrupt(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        stack.gunicorn.send_signal(number)

    with start(threads=128) as stack:
        streams = receive(stack.direct, [call(SHORT), call(LONG)] * 50, interrupt)
        records = stack.wait_for_records(100)
        if number == signal.SIGHUP:
            assert ask(stack.direct, call("whole", stream=False)).startswith(b"HTTP/1.1 200 ")

    assert [stream.fault for stream in streams] == [None] * 100
    assert all(stream.is_done for stream in streams[::2])
    for stream in streams[1::2]:
        assert stream.is_framed
        assert stream.error is not None, stream.data[-500:]
        assert stream.error["code"] == "draining"
        assert b"[DONE]" not in stream.data
    assert len({record["id"] for record in records}) == len(records)
    ends = sorted((record["outcome"], record.get("code")) for record in records[:100])
    assert ends == [("ok", None)] * 50 + [("truncated", "draining")] * 50
    assert stack.gunicorn.returncode == 0
    assert "Traceback" not in stack.logs()["gunicorn.log"]


def test_calls_that_wait_for_their_first_byte_are_told_to_try_again(start: Start) -> None:
    def interrupt(_: Sequence[Stream]) -> None:
        eventually(lambda: b'"calls": 30' in ask(stack.direct, get("/readyz")))
        stack.gunicorn.send_signal(signal.SIGTERM)

    with start(threads=64) as stack:
        replies = receive(
            stack.direct, [call("silent"), call("silent", stream=False)] * 15, interrupt
        )
        records = stack.wait_for_records(30)

    for reply in replies:
        assert reply.head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in reply.head
        assert code_of(reply.data) == "draining"
    assert [record["code"] for record in records] == ["draining"] * 30
    assert stack.gunicorn.returncode == 0


def test_a_worker_that_drains_refuses_at_once(start: Start) -> None:
    with (
        start(threads=32) as stack,
        Caller(stack.direct) as holder,
        Caller(stack.direct) as late,
        ExitStack() as idle,
    ):
        # Whoever asks at the very moment of the signal is answered once more, and hung up on.
        probes = [idle.enter_context(Caller(stack.direct)) for _ in range(3)]
        for caller in (*probes, late):
            assert caller.exchange(get("/readyz")).startswith(b"HTTP/1.1 200 ")
        holder.send(call(LONG))
        holder.read_until(b"data:")
        [worker] = workers(stack)
        stack.gunicorn.send_signal(signal.SIGTERM)

        # On connections that are open already the refusal comes from here, whether or not others hang up...
        eventually(lambda: _probed(probes).startswith(b"HTTP/1.1 503 "))
        assert b'"reasons": ["draining"]' in probes[-1].data
        refusal = late.exchange(call("whole", stream=False))
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refusal
        # ... while nobody takes new ones: waiting in a queue would look like a hanging gateway.
        eventually(lambda: not _connects(stack.direct))
        refusal = ask(stack.url, call("whole", stream=False))
        assert refusal.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 "))
        assert b"retry-after: 1" in refusal
        assert [worker] == workers(stack)
        holder.read_until(b"gateway is restarting")
    assert stack.gunicorn.returncode == 0


def _probed(callers: list[Caller]) -> bytes:
    try:
        return callers[-1].exchange(get("/readyz"))
    except ConnectionError:
        callers.pop()
        return b""


def test_during_a_reload_every_new_call_is_served(start: Start) -> None:
    with start(threads=32, seconds=60) as stack, Caller(stack.direct) as holder:
        # nginx keeps connections to the old worker that it will use again.
        receive(stack.url, [call("whole", stream=False)] * 10, lambda _: None)
        holder.send(call(LONG))
        holder.read_until(b"data:")
        [old] = workers(stack)
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: len(workers(stack)) == 2)
        for _ in range(100):
            assert ask(stack.url, call("whole", stream=False)).startswith(b"HTTP/1.1 200 ")
        assert old in workers(stack)
        holder.hang_up()
        eventually(lambda: old not in workers(stack))


def test_calls_above_the_capacity_are_refused_while_health_checks_answer(start: Start) -> None:
    capacity = 8

    def overload(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        more = receive(stack.direct, [call("whole")] * 60, lambda _: None)
        refusals.extend(more)
        for _ in range(20):
            assert ask(stack.direct, get("/healthz")).startswith(b"HTTP/1.1 200 ")

    refusals: list[Stream] = []
    with start(threads=capacity + 16) as stack:
        streams = receive(stack.direct, [call(SHORT)] * capacity, overload)
        records = stack.wait_for_records(capacity + 60)
    assert all(stream.is_done for stream in streams)
    for refusal in refusals:
        assert refusal.head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refusal.head
        assert code_of(refusal.data) == "overloaded"
    assert [record["outcome"] for record in records].count("denied") == 60


def test_a_worker_that_is_killed_leaves_a_cut_that_callers_see(start: Start) -> None:
    def kill(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        [worker] = workers(stack)
        os.kill(worker, signal.SIGKILL)

    with start(threads=64) as stack:
        streams = receive(stack.url, [call(LONG)] * 20, kill)
        assert not any(stream.is_framed for stream in streams)
        eventually(lambda: ask(stack.url, call("whole", stream=False)).startswith(b"HTTP/1.1 200 "))


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=["QUIT", "INT"])
def test_a_stop_at_once_waits_for_nobody_and_ends_streams_in_words(
    start: Start, number: signal.Signals
) -> None:
    def interrupt(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        stack.gunicorn.send_signal(number)
        assert stack.gunicorn.wait(PATIENCE) == 0

    # With sixty seconds to drain, only a stop that does not drain is over in time.
    with start(threads=64, seconds=60) as stack:
        streams = receive(stack.direct, [call(LONG)] * 10, interrupt)
        records = stack.wait_for_records(10)
    for stream in streams:
        assert stream.is_framed
        assert stream.error is not None, stream.data[-500:]
        assert stream.error["code"] == "draining"
    assert [record["code"] for record in records] == ["draining"] * 10


def test_when_the_main_process_is_killed_its_workers_drain_and_go(start: Start) -> None:
    def kill(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        known.extend(workers(stack))
        stack.gunicorn.kill()
        stack.gunicorn.wait(PATIENCE)
        eventually(lambda: not _connects(stack.direct))

    known: list[int] = []
    with start(threads=64) as stack:
        streams = receive(stack.direct, [call(SHORT), call(LONG)] * 5, kill)
        records = stack.wait_for_records(10)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in known))
    assert all(stream.is_done for stream in streams[::2])
    assert all(stream.is_framed and stream.error for stream in streams[1::2])
    ends = sorted((record["outcome"], record.get("code")) for record in records)
    assert ends == [("ok", None)] * 5 + [("truncated", "draining")] * 5


def code_of(reply: bytes) -> str:
    code: str = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"]
    return code


def _connects(url: str) -> bool:
    try:
        Caller(url).hang_up()
    except ConnectionRefusedError:
        return False
    return True
