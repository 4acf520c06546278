"""Callers that hang up in every way leave nothing behind but their records."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.load import (
    Caller,
    LoadUpstream,
    ask,
    call,
    eventually,
    running_upstream,
    sockets_to,
    workers,
)
from tests.e2e.stack import Stack, configuration, running_stack

pytestmark = pytest.mark.alone

CALLERS = 1_000
# The shipped nginx.conf lets one address have 100 connections.
BURST = 50
#: The upstream says nothing at all; says three events, then nothing; is in the middle of a stream.
WAYS = ("silent", "stall-3", "stream-2000-10")


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[LoadUpstream]:
    with running_upstream(tmp_path) as found:
        yield found


@pytest.fixture
def stack(need_nginx: None, tmp_path: Path, upstream: LoadUpstream) -> Iterator[Stack]:
    config = configuration({"load": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
    with running_stack(tmp_path, config, threads=128) as found:
        yield found


def _burst(url: str, upstream: LoadUpstream) -> None:
    """Callers who all hang up in the same moment, half of them with a reset."""
    # What is left of earlier bursts must not fill the proxy: a refused call would prove nothing.
    eventually(lambda: upstream.state()["open"] <= BURST)
    awaited = upstream.state()["calls"] + BURST
    models = [WAYS[number % len(WAYS)] for number in range(BURST)]
    with ExitStack() as cleanup:
        callers = [cleanup.enter_context(Caller(url)) for _ in models]
        for caller, model in zip(callers, models, strict=True):
            caller.send(call(model))
        eventually(lambda: upstream.state()["calls"] == awaited)
        for caller, model in zip(callers, models, strict=True):
            if model != "silent":
                caller.read_until(b"data:")
        for number, caller in enumerate(callers):
            caller.hang_up(reset=number // len(WAYS) % 2 == 1)


@pytest.mark.parametrize("way", ["through nginx", "direct"])
def test_1000_callers_who_hang_up_leave_no_socket_and_1000_records(
    way: str,
    stack: Stack,
    upstream: LoadUpstream,
    record_property: Callable[[str, object], None],
) -> None:
    url = stack.url if way == "through nginx" else stack.direct
    [worker] = workers(stack)
    for _ in range(CALLERS // BURST):
        _burst(url, upstream)

    seconds = eventually(lambda: upstream.state()["open"] == 0)
    seconds += eventually(lambda: sockets_to(worker, upstream.port) == 0)
    record_property("figure", f"{way}: no upstream socket is left after {seconds:.2f} s")

    assert ask(url, call("whole", stream=False)).startswith(b"HTTP/1.1 200 ")
    *records, last = stack.wait_for_records(CALLERS + 1)
    assert len({record["id"] for record in records}) == len(records) == CALLERS
    assert {record["outcome"] for record in records} == {"client_gone"}
    assert last["outcome"] == "ok"
    assert [worker] == workers(stack)
    assert "Traceback" not in stack.logs()["gunicorn.log"]
