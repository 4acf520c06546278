"""Capacity: what many slow streams at once cost one worker."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxy.serving import RESERVED_THREADS
from tests.e2e.load import (
    Stream,
    ask,
    begun,
    call,
    eventually,
    memory,
    quantile,
    receive,
    running_upstream,
    workers,
)
from tests.e2e.stack import configuration, running_stack

pytestmark = pytest.mark.alone

STREAMS = 500
EVENTS = 48
GAP = 250  # milliseconds
# Far above what is measured (about 70 KB): a leak of whole replies or stacks shows, noise does not.
BOUND = 400 * 1024


def test_500_slow_streams_in_one_worker_all_complete(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with running_upstream(tmp_path) as upstream:
        config = configuration({"load": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        threads = STREAMS + RESERVED_THREADS
        with running_stack(tmp_path, config, threads=threads, front=False) as stack:
            [worker] = workers(stack)
            ask(stack.direct, call("whole", stream=False))
            before, during = memory(worker), {}

            def measure(streams: Sequence[Stream]) -> None:
                eventually(lambda: begun(streams))
                during.update(memory(worker))

            streams = receive(stack.direct, [call(f"stream-{EVENTS}-{GAP}")] * STREAMS, measure)
            records = stack.wait_for_records(STREAMS + 1)

    assert [stream.fault for stream in streams] == [None] * STREAMS
    assert {stream.events for stream in streams} == {EVENTS}
    assert all(stream.is_done for stream in streams)
    assert [record["outcome"] for record in records] == ["ok"] * (STREAMS + 1)
    assert {record["events"] for record in records if record.get("stream")} == {EVENTS + 1}

    each = {name: (during[name] - before[name]) / STREAMS for name in before}
    delays = [delay for stream in streams for delay in stream.delays()]
    starts = [stream.first_byte() for stream in streams]
    record_property(
        "figure",
        f"{STREAMS} streams: {each['Pss'] / 1024:.0f} KiB PSS and {each['Rss'] / 1024:.0f} KiB RSS each,"
        f" delay of an event p50 {quantile(delays, 0.5) * 1000:.1f} ms"
        f" p99 {quantile(delays, 0.99) * 1000:.1f} ms, first event of the burst"
        f" p50 {quantile(starts, 0.5) * 1000:.0f} ms max {max(starts) * 1000:.0f} ms",
    )
    assert each["Pss"] < BOUND
    assert each["Rss"] < BOUND
