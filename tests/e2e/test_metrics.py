"""Under real gunicorn: the counts of all workers add up, whoever dies, and the last records are not lost."""

import contextlib
import http.client
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.answers import COMPLETION, chunk
from tests.e2e.load import workers
from tests.e2e.stack import SECRETS, Stack, configuration, post, running_stack
from tests.plugins.test_metrics import samples
from tests.receivers import HttpReceiver, http_receiver
from tests.records import PATIENCE, eventually
from tests.upstream import WAIT, ScriptedUpstream, json_reply, sse

TOKEN = "scrape-token-0123456789"
WORKERS = 3
METRICS = """
[[plugins]]
use = "metrics"
options = { token = { env = "SCRAPE_TOKEN" } }

[[plugins]]
use = "webhook_log"
options = { url = "URL" }
"""


def read(stack: Stack) -> dict[str, dict[tuple[str, ...], float]]:
    """The page, from whichever worker takes the connection."""
    asked = urllib.request.Request(
        f"{stack.direct}/metrics", headers={"authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return samples(answer.read().decode())


def total(stack: Stack) -> float:
    return sum(read(stack).get("outgate_calls_total", {}).values())


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def served(tmp_path: Path, receiver: HttpReceiver) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    with ScriptedUpstream(json_reply(COMPLETION)) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        config += METRICS.replace("URL", receiver.url)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment = {**SECRETS, "SCRAPE_TOKEN": TOKEN, "TMPDIR": str(scratch)}
        with running_stack(
            tmp_path, config, workers=WORKERS, front=False, environment=environment
        ) as stack:
            yield stack, upstream
    assert list(scratch.iterdir()) == []


def calls(stack: Stack, count: int) -> None:
    """Calls one after the other, each on a connection of its own, so that every worker gets some."""
    for _ in range(count):
        post(stack, {"model": "scripted", "prompt": "x"})


def test_the_counts_of_all_workers_are_one_sum_whoever_answers_dies_or_is_replaced(
    served: tuple[Stack, ScriptedUpstream], receiver: HttpReceiver
) -> None:
    stack, _ = served
    calls(stack, 60)
    stack.wait_for_records(60)
    eventually(lambda: total(stack) == 60)
    assert {total(stack) for _ in range(20)} == {60}

    pages = list(stack.folder.glob("scratch/outgate-*/metrics/counter_*.db"))
    assert len(pages) == WORKERS  # so it was a sum

    victim = workers(stack)[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in workers(stack) and len(workers(stack)) == WORKERS)
    eventually(lambda: _answers(stack))
    assert {total(stack) for _ in range(10)} == {60}
    calls(stack, 30)
    eventually(lambda: total(stack) == 90)

    before = set(workers(stack))
    stack.gunicorn.send_signal(signal.SIGHUP)
    eventually(lambda: not before & set(workers(stack)) and len(workers(stack)) == WORKERS)
    eventually(lambda: _answers(stack))
    calls(stack, 30)
    eventually(lambda: total(stack) == 120)
    identified = ("identify", "static_keys", "identified")
    eventually(lambda: read(stack)["outgate_hook_verdicts_total"][identified] == 120)
    found = read(stack)
    assert found["outgate_proxy_seconds_count"][("completions", "false")] == 120
    assert sum(found["outgate_bytes_total"].values()) > 0
    told = sum(len(json.loads(batch.body)["records"]) for batch in receiver.posts)
    assert told <= 120


def _answers(stack: Stack) -> bool:
    with contextlib.suppress(OSError):
        return bool(read(stack))
    return False


def test_streams_of_all_workers_are_in_flight_until_they_end_or_their_worker_does(
    served: tuple[Stack, ScriptedUpstream],
) -> None:
    stack, upstream = served
    upstream.play(sse([chunk("a"), WAIT, chunk("", "stop"), "[DONE]"]))
    body = {"model": "scripted", "prompt": "x", "stream": True}

    def hold() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            post(stack, body)

    holders = [threading.Thread(target=hold) for _ in range(12)]
    for holder in holders:
        holder.start()
    upstream.wait_for(lambda: len(upstream.requests) == 12)
    eventually(lambda: read(stack)["outgate_streams_in_flight"][()] == 12)
    assert read(stack)["outgate_calls_inside"][()] == 12
    victim = workers(stack)[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in workers(stack) and len(workers(stack)) == WORKERS)
    eventually(lambda: _answers(stack))
    eventually(
        lambda: (
            read(stack)["outgate_streams_in_flight"][()]
            == sum(holder.is_alive() for holder in holders)
        )
    )
    upstream.release()
    for holder in holders:
        holder.join(PATIENCE)
    eventually(lambda: read(stack)["outgate_streams_in_flight"][()] == 0)


def test_a_service_that_stops_delivers_the_last_records(
    tmp_path: Path, receiver: HttpReceiver
) -> None:
    with ScriptedUpstream(json_reply(COMPLETION)) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        config += METRICS.replace("URL", receiver.url)
        environment = {**SECRETS, "SCRAPE_TOKEN": TOKEN}
        with running_stack(
            tmp_path, config, workers=2, front=False, environment=environment
        ) as stack:
            calls(stack, 25)
            stack.gunicorn.send_signal(signal.SIGTERM)
            stack.gunicorn.wait(PATIENCE)
    ids = [one["id"] for batch in receiver.posts for one in json.loads(batch.body)["records"]]
    assert sorted(ids) == sorted(told["id"] for told in stack.records())
    assert len(ids) == 25
    assert "not delivered" not in (tmp_path / "gunicorn.log").read_text()
