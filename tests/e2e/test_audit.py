"""Workers are killed under load: nothing acknowledged is lost, every call inside is listed, the trail verifies."""

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from proxy.audit import keys
from proxy.audit.reading import Query, search
from proxy.audit.verify import Problem, verify
from tests.e2e.answers import COMPLETION
from tests.e2e.load import workers
from tests.e2e.stack import ALICE_KEY, SECRETS, Stack, configuration, running_stack
from tests.records import eventually
from tests.upstream import ScriptedUpstream, json_reply, slow

KILLS: Final = 100
CALLERS: Final = 6
SEED: Final = 20261122
BODY: Final = json.dumps({"model": "scripted", "prompt": "x"}).encode()
HEADERS: Final = {"authorization": f"Bearer {ALICE_KEY}", "content-type": "application/json"}
AUDIT: Final = """
[audit]
directory = "{folder}/trail"
seal_to = "{folder}/keys/{public}"
sign_with = "{folder}/keys/{signing}"
checkpoint_seconds = 1
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    keys.create(tmp_path / "keys")
    names = {"public": keys.SEALING_PUBLIC, "signing": keys.SIGNING_PRIVATE}
    with ScriptedUpstream(slow(json_reply(COMPLETION), gap=0.002, piece=200)) as upstream:
        config = configuration({"scripted": f"{upstream.url}/v1"}, tmp_path / "log.jsonl")
        config += AUDIT.format(folder=tmp_path, **names)
        with running_stack(tmp_path, config, workers=2, front=False, environment=SECRETS) as stack:
            yield stack, upstream


class Load(threading.Thread):
    """Calls without a pause; ``answered`` are the ids of those that were answered in full."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack
        self.over = threading.Event()
        self.answered: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            # A worker that is killed takes its calls along; the next one is made at once.
            with contextlib.suppress(http.client.HTTPException, OSError):
                self._call()

    def _call(self) -> None:
        address = self._stack.direct.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/completions", BODY, HEADERS)
            answer = connection.getresponse()
            answer.read()
            if answer.status == HTTPStatus.OK:
                self.answered.append(answer.headers["x-outgate-id"])


def killed(stack: Stack, count: int) -> None:
    chance = random.Random(SEED)
    for _ in range(count):
        eventually(lambda: workers(stack) != [])
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(workers(stack)), signal.SIGKILL)
        time.sleep(chance.uniform(0.1, 0.6))


def problems(folder: Path) -> tuple[Problem, ...]:
    private = keys.sealing_private(folder / "keys" / keys.SEALING_PRIVATE)
    signing = keys.signing_public(folder / "keys" / keys.SIGNING_PUBLIC)
    return verify(folder / "trail", private=[private], signing=signing).problems


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_workers_that_are_killed_under_load_lose_nothing_that_was_answered(
    served: tuple[Stack, ScriptedUpstream],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    stack, upstream = served
    callers = [Load(stack) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    killed(stack, KILLS)
    for caller in callers:
        caller.over.set()
    for caller in callers:
        caller.join()
    answered = [id_ for caller in callers for id_ in caller.answered]
    eventually(lambda: all(call.ended for call in search(tmp_path / "trail", Query())))
    calls = {call.id: call for call in search(tmp_path / "trail", Query())}
    outcomes = Counter(call.outcome for call in calls.values())
    sent = len(upstream.requests)
    record_property(
        "figure", f"{KILLS} kills: {len(answered)} answered, {sent} sent, {dict(outcomes)}"
    )
    assert {calls[id_].outcome for id_ in answered} <= {"ok", "recovered"}
    assert sum(call.intent is not None for call in calls.values()) >= sent
    assert len(answered) > CALLERS
    assert problems(tmp_path) == ()
