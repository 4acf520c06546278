"""Callers who never read, and a process without file descriptors: both cost little, and health answers."""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.load import Caller, ask, call, eventually, get, memory, receive, workers
from tests.e2e.stack import Stack, configuration, running_stack
from tests.upstream import Repeated, Script, ScriptedUpstream, json_reply, silent, stream

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits are set as Linux does"),
]

_KIND: Final = ("content-type", "text/event-stream")
#: Far more than all buffers between an upstream and its caller hold.
_FLOOD: Final = stream(Repeated(b"data: " + b"x" * 60_000 + b"\n\n", 10**5), headers=[_KIND])
_MiB: Final = 1024 * 1024
_DESCRIPTORS: Final = 48


@contextmanager
def _running(
    folder: Path, script: Script, more: str = "", threads: int = 48
) -> Iterator[tuple[Stack, int]]:
    """A proxy without nginx, so that every caller is a connection of gunicorn's, and its one worker."""
    with ScriptedUpstream(script) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, folder / "log.jsonl")
        with running_stack(folder, config + more, front=False, threads=threads) as stack:
            [worker] = workers(stack)
            yield stack, worker
            assert "Traceback" not in stack.logs()["gunicorn.log"]
            upstream.release()


def test_t7_twenty_callers_who_never_read_cost_bounded_memory(tmp_path: Path) -> None:
    more = "\n[limits]\nclient_idle = 4\n"
    with _running(tmp_path, _FLOOD, more) as (stack, worker), ExitStack() as callers:
        assert ask(stack.direct, get("/healthz")).startswith(b"HTTP/1.1 200 ")
        before = memory(worker)["Rss"]
        for _ in range(20):
            callers.enter_context(Caller(stack.direct)).send(call("scripted"))
        eventually(lambda: b'"calls": 20' in ask(stack.direct, get("/readyz")))
        most = 0
        while len(stack.records()) < 20:
            most = max(most, memory(worker)["Rss"])
            assert ask(stack.direct, get("/healthz")).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.1)
        # What they hold is a few buffers each, and is given up once they did not read for client_idle.
        assert most - before < 20 * _MiB
        assert {record["outcome"] for record in stack.records()} == {"client_gone"}


def _limit(process: int) -> None:
    resource.prlimit(process, resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))


def test_k11_idle_connections_make_room_when_descriptors_run_out(tmp_path: Path) -> None:
    with _running(tmp_path, json_reply({"choices": []})) as (stack, worker):
        _limit(worker)
        with ExitStack() as idle:
            for _ in range(2 * _DESCRIPTORS):
                caller = idle.enter_context(Caller(stack.direct))
                assert caller.exchange(get("/healthz")).startswith(b"HTTP/1.1 200 ")
            answer = ask(stack.direct, call("scripted", stream=False))
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert workers(stack) == [worker]


def test_k11_a_worker_takes_no_more_calls_than_it_has_descriptors_for(tmp_path: Path) -> None:
    with _running(tmp_path, silent(), threads=24) as (stack, first):
        # The next worker knows of the limit from its start.
        _limit(stack.gunicorn.pid)
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: len(workers(stack)) == 1 and workers(stack) != [first])
        [worker] = workers(stack)
        with ExitStack() as callers:
            for _ in range(_DESCRIPTORS):
                callers.enter_context(Caller(stack.direct)).send(call("scripted", stream=False))
            time.sleep(1)
            assert workers(stack) == [worker]
        # All have hung up: what they held is free again.
        eventually(lambda: b'"calls": 0' in ask(stack.direct, get("/readyz")))
        answers = receive(stack.direct, [get("/healthz")] * 20, lambda _: None)
        assert all(answer.head.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert workers(stack) == [worker]


@pytest.mark.parametrize("connections", [1, 20, 60])
def test_every_connection_is_served_in_its_turn_with_threads_for_all_or_not(
    tmp_path: Path, connections: int
) -> None:
    with (
        _running(tmp_path, json_reply({"choices": []}), threads=24) as (stack, _),
        ExitStack() as open_,
    ):
        callers = [open_.enter_context(Caller(stack.direct)) for _ in range(connections)]
        for _ in range(5):
            for caller in callers:
                answer = caller.exchange(call("scripted", stream=False))
                assert answer.startswith(b"HTTP/1.1 200 ")
        for caller in callers:
            caller.send(call("scripted", stream=False) + get("/healthz"))
            caller.read_until(b'"ok"')
            assert caller.data.count(b"HTTP/1.1 200 ") == 2
        assert len(stack.wait_for_records(6 * connections)) == 6 * connections
