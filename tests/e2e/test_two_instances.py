"""Two machines behind one nginx, one PostgreSQL, one Redis: what holds for one holds for both, and one may die."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import pytest

from proxy.audit.reading import Query, search
from proxy.audit.verify import verify
from tests.e2e.answers import COMPLETION
from tests.e2e.stack import (
    NGINX,
    PATIENCE,
    ROOT,
    Stack,
    configuration,
    nginx_configuration,
    running,
    running_gunicorn,
    wait_until_ready,
)
from tests.ports import free_address
from tests.records import eventually
from tests.store.servers import PEPPER, opened
from tests.upstream import ScriptedUpstream, json_reply, slow

CALLS_AN_HOUR: Final = 60
TOKENS: Final = 1_000
CALLERS: Final = 8
BODY: Final = json.dumps({"model": "scripted", "prompt": "x", "max_tokens": 20}).encode()

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx"),
]


def settings(folder: Path, upstream: str, database: str) -> str:
    """What both machines are given; each keeps its own log and trail."""
    config = configuration({"scripted": upstream}, folder / "log.jsonl")
    return f"""{config}
[store]
url = "{database}"
pepper = {{ env = "PEPPER" }}

[audit]
directory = "{folder}/trail"

[[plugins]]
use = "virtual_keys"

[[plugins]]
use = "rate_limit"
when = {{ principals = ["limited"] }}
options = {{ redis = {{ env = "REDIS" }}, rules = [{{ per = "key", requests = "{CALLS_AN_HOUR}/hour" }}] }}

[[plugins]]
use = "budget"
options.budgets = [{{ name = "purse", per = "key", tokens = {TOKENS}, every = "lifetime" }}]
"""


@dataclass
class Pair:
    """Two instances, and what stands before and behind them."""

    url: str
    folders: tuple[Path, Path]
    processes: list[subprocess.Popen[bytes]]
    addresses: tuple[str, str]
    configs: tuple[str, str]
    environment: dict[str, str]
    upstream: ScriptedUpstream
    database: str
    cleanup: ExitStack

    def outgate(self, *words: str) -> str:
        """The output of a command, run on the first machine."""
        command = [sys.executable, "-m", "proxy.cli", *words]
        config = {"OUTGATE_CONFIG": str(self.folders[0] / "outgate.toml")}
        environment = {**os.environ, **config, **self.environment}
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def key(self, name: str) -> str:
        return self.outgate("keys", "create", name, "--quiet")

    def start(self, number: int) -> None:
        """Start an instance, or start it again."""
        process = self.cleanup.enter_context(
            running_gunicorn(
                self.folders[number], self.configs[number], self.addresses[number],
                workers=2, threads=32, environment=self.environment,
            )
        )  # fmt: skip
        url = f"http://{self.addresses[number]}"
        stack = Stack(
            url=url, direct=url, folder=self.folders[number], gunicorn=process, nginx=None
        )
        wait_until_ready(f"{url}/readyz", [process], stack)
        self.processes[number:] = [process, *self.processes[number + 1 :]]

    def kill(self, number: int) -> None:
        """As when the power is cut: no process of the instance is told."""
        os.killpg(self.processes[number].pid, signal.SIGKILL)
        self.processes[number].wait(PATIENCE)

    def records(self, number: int) -> list[dict[str, Any]]:
        path = self.folders[number] / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


def front(addresses: Sequence[str], listen: str) -> str:
    """The shipped file for two machines, changed as the page on deployment says."""
    text = nginx_configuration((ROOT / "deploy/nginx.conf").read_text(), listen, addresses[0])
    one = f"server {addresses[0]} max_fails=0;"
    both = "".join(f"server {address} max_fails=1 fail_timeout=1s;" for address in addresses)
    assert text.count(one) == 1
    assert text.count("proxy_next_upstream   off;") == 1
    return text.replace(one, both).replace(
        "proxy_next_upstream   off;", "proxy_next_upstream error;"
    )


@pytest.fixture
def pair(tmp_path: Path, postgresql: str, redis_url: str) -> Iterator[Pair]:
    with (
        ScriptedUpstream(slow(json_reply(COMPLETION), gap=0.002, piece=200)) as upstream,
        paired(tmp_path, upstream, postgresql, redis_url) as running_pair,
    ):
        yield running_pair


@contextmanager
def paired(folder: Path, upstream: ScriptedUpstream, database: str, redis: str) -> Iterator[Pair]:
    folders = (folder / "a", folder / "b")
    addresses = (free_address(), free_address())
    listen = free_address()
    environment = {
        "PEPPER": PEPPER, "REDIS": redis, "ALICE_KEY": "alice-key-0123456789",
        "DEMO_UPSTREAM_KEY": "upstream-key-0123456789",
    }  # fmt: skip
    for one in folders:
        one.mkdir()
    configs = tuple(settings(one, f"{upstream.url}/v1", database) for one in folders)
    (folder / "nginx.conf").write_text(front(addresses, listen))
    with ExitStack() as cleanup:
        pair = Pair(
            f"http://{listen}", folders, [], addresses, (configs[0], configs[1]), environment,
            upstream, database, cleanup,
        )  # fmt: skip
        for number in range(2):
            pair.start(number)
        directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        command = [
            str(NGINX),
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
            "-g",
            directives,
        ]
        cleanup.enter_context(running(command, folder / "nginx.log", {}))
        eventually(lambda: _status(pair.url, "/readyz") == HTTPStatus.OK)
        yield pair


def _status(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


@dataclass
class Load:
    """Calls from several threads, until there were ``calls`` of them or it is stopped."""

    url: str
    key: str
    calls: int = 10**9
    over: threading.Event = field(default_factory=threading.Event)
    statuses: Counter[int] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)
    _begun: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.calls == 10**9:
            self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self.over.is_set() and self._may():
            with contextlib.suppress(http.client.HTTPException, OSError):
                status, id_ = ask(self.url, self.key)
                with self._lock:
                    self.statuses[status] += 1
                    if status == HTTPStatus.OK:
                        self.answered.append(id_)

    def _may(self) -> bool:
        with self._lock:
            self._begun += 1
            return self._begun <= self.calls


def ask(url: str, key: str) -> tuple[int, str]:
    """The status of a call, and its id."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/completions", BODY, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("x-outgate-id", "")


def test_a_limit_counts_the_calls_of_both_exactly(pair: Pair) -> None:
    with Load(pair.url, pair.key("limited"), calls=CALLS_AN_HOUR + 40) as load:
        pass
    assert load.statuses == {200: CALLS_AN_HOUR, 429: 40}
    assert all(pair.records(number) for number in range(2))


def test_a_revoked_key_is_refused_by_both_within_a_second(pair: Pair) -> None:
    key = pair.key("leaver")
    urls = [f"http://{address}" for address in pair.addresses]
    assert [ask(url, key)[0] for url in urls] == [200, 200]
    pair.outgate("keys", "revoke", "leaver")
    time.sleep(1)
    assert [ask(url, key)[0] for url in urls] == [401, 401]


def test_one_is_killed_and_nothing_is_lost_or_spent_twice(
    pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    with Load(pair.url, pair.key("spender")) as load:
        eventually(lambda: len(load.answered) > 50)
        pair.kill(0)
        reached = len(load.answered)
        eventually(lambda: len(load.answered) > reached + 50)
        pair.start(0)
        eventually(lambda: load.statuses[HTTPStatus.TOO_MANY_REQUESTS] > 0)

    # The trail: whatever was answered is on it, whatever was sent has its intent, and every file holds.
    trails = [folder / "trail" for folder in pair.folders]
    eventually(lambda: all(call.ended for trail in trails for call in search(trail, Query())))
    calls = {call.id: call for trail in trails for call in search(trail, Query())}
    outcomes = Counter(call.outcome for call in calls.values())
    sent = len(pair.upstream.requests)
    assert {calls[id_].outcome for id_ in load.answered} <= {"ok", "recovered"}
    assert sum(call.intent is not None for call in calls.values()) >= sent
    assert [verify(trail).problems for trail in trails] == [(), ()]

    # The money: never more than there is, and nothing stays reserved for the dead.
    ledger = opened(pair.database).ledger
    subject = json.loads(pair.outgate("keys", "show", "spender", "--json"))["id"]
    eventually(lambda: not ledger.balance("purse", subject, "lifetime", "tokens").reserved)
    settled = ledger.balance("purse", subject, "lifetime", "tokens").settled
    assert settled <= min(TOKENS, 2 * sent)
    assert settled > TOKENS / 2
    record_property(
        "figure",
        f"{len(load.answered)} answered, {sent} sent, {dict(load.statuses)}, {dict(outcomes)},"
        f" {settled} of {TOKENS} tokens settled",
    )
