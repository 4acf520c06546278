"""A generated corpus of doubtful HTTP, direct and through nginx: whoever gets an answer gets their own."""

import json
import re
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from tests.connection import Connection, Received, says_more
from tests.e2e.load import Caller, address
from tests.e2e.stack import NGINX, Stack, configuration, running_stack
from tests.gateway import CHOICE, PATIENCE, REPLY
from tests.upstream import ScriptedUpstream, json_reply
from tests.wire_cases import CASES, marker, numbered

pytestmark = pytest.mark.alone

#: Seconds of silence after which a caller believes that no more comes, and one who is asked again.
_QUIET: Final = 0.2
_SURE: Final = 5.0
_CALLERS: Final = 24
#: Added to the number of a payload that is sent once more.
_AGAIN: Final = 5000
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d\d\d) ")
_SAID: Final = re.compile(rb'"said:([HSMC]\d{4})"')
#: nginx and gunicorn refuse a coding or a version that they do not know with these two.
_OURS: Final = {501, 505}


def _echo(connection: Connection, request: Received) -> None:
    """An answer that says which request it is for."""
    said = f"said:{request.json()['prompt']}"
    json_reply({**REPLY, "choices": [{**CHOICE, "text": said}]})(connection, request)


@dataclass(frozen=True)
class Talk:
    """What a caller heard: the status of each answer, and whom those with 200 were for."""

    payload: bytes
    data: bytes

    @property
    def statuses(self) -> list[int]:
        """Without 100, which is no answer yet."""
        return [int(status) for status in _STATUS.findall(self.data) if status != b"100"]

    @property
    def said(self) -> list[str]:
        return [text.decode() for text in _SAID.findall(self.data)]


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(_echo) as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("wire")
    config = configuration({"main": f"{upstream.url}/v1"}, folder / "log.jsonl")
    config += "\n[limits]\nclient_idle = 2\n"
    with running_stack(folder, config, front=NGINX is not None, threads=64) as running:
        yield running


def _talk(where: tuple[str, int], payload: bytes, number: int, quiet: float = _QUIET) -> Talk:
    """Send a payload and, behind it, the request that must be answered as itself or not at all."""
    last, heard = b"said:M%04d" % number, b""
    with socket.create_connection(where, timeout=PATIENCE) as sock:
        try:
            sock.sendall(numbered(payload, number) + marker(number))
            while last not in heard and says_more(sock, quiet):
                if not (piece := sock.recv(65_536)):
                    break
                heard += piece
            else:
                sock.shutdown(socket.SHUT_WR)
                while piece := sock.recv(65_536):
                    heard += piece
        except OSError:
            pass  # the server hung up on what it will not read
    return Talk(payload, heard)


def _canaries(url: str, stop: list[bool]) -> int:
    """Calls of somebody beside all this, who must get each answer that is theirs; returns how many."""
    count = 0
    with Caller(url) as caller:
        while not stop:
            prompt = b"C%04d" % (count % 10_000)
            answer = caller.exchange(marker(0).replace(b"M0000", prompt))
            assert b"said:" + prompt in answer, answer
            count += 1
    return count


def _fault(talk: Talk, number: int, sent: list[str]) -> str | None:
    """What is wrong with one payload's answers, seen beside what left for the upstream in its name."""
    said = talk.said
    unheard = [prompt for prompt in sent if prompt not in said]
    faults = {
        "a fault of the server": any(code >= 500 and code not in _OURS for code in talk.statuses),
        "more answers than requests": len(talk.statuses) > 3,
        "an answer to another request, or out of order": [p for p in sent if p in said] != said,
        "a request that was sent twice": len(set(sent)) != len(sent),
        "a hidden request that nobody was answered for": f"S{number:04d}" in unheard,
        "an unheard answer": len(unheard) > talk.statuses.count(499) + 1,
        "an answer behind the last one": f"M{number:04d}" in said[:-1],
    }
    return next((name for name, found in faults.items() if found), None)


def _sent(upstream: ScriptedUpstream) -> dict[int, list[str]]:
    """What arrived behind the proxy, by the number of the payload."""
    found: dict[int, list[str]] = defaultdict(list)
    for request in list(upstream.requests):
        prompt = json.loads(request.body)["prompt"]
        if not prompt.startswith("C"):
            found[int(prompt[1:])].append(prompt)
    return found


@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_h1_no_payload_desynchronises_a_connection(
    stack: Stack,
    upstream: ScriptedUpstream,
    way: str,
    record_property: Callable[[str, object], None],
) -> None:
    assert 1500 <= len(CASES) <= _AGAIN
    if way == "nginx" and NGINX is None:
        pytest.skip("nginx is not installed")
    url = stack.direct if way == "direct" else stack.url
    upstream.requests.clear()
    stop: list[bool] = []
    with ThreadPoolExecutor(_CALLERS + 1) as pool:
        beside = pool.submit(_canaries, url, stop)
        where = address(url)
        talks = list(pool.map(lambda at: _talk(where, CASES[at], at), range(len(CASES))))
        stop.append(True)
        assert beside.result() > 0
    sent = _sent(upstream)
    # On a busy machine an answer may come later than its caller believed: such a caller is asked again.
    doubtful = [at for at, talk in enumerate(talks) if _fault(talk, at, sent[at])]
    assert len(doubtful) < 20, [talks[at] for at in doubtful]
    for at in doubtful:
        again = _talk(where, CASES[at], at + _AGAIN, _SURE)
        assert not _fault(again, at + _AGAIN, _sent(upstream)[at + _AGAIN]), again
    statuses = Counter(status for talk in talks for status in talk.statuses)
    record_property("figure", f"{len(CASES)} payloads, {way}: {sorted(statuses.items())}")
    log = stack.logs()["gunicorn.log"]
    assert "Traceback" not in log, log[-5000:]
