"""Plugins that take memory, start threads, keep state or print: no call of anybody else notices."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from proxy import Call, hookimpl
from tests.gateway import COMPLETION, KEY, UPSTREAM_KEY, bearer, encoded, gateway, refused

#: Bytes, each of them written to.
_MUCH: Final = 1 << 28
_SEEN: Final[dict[str, int]] = {}
_THREADS: Final[list[threading.Thread]] = []
_MEDDLED: Final = threading.Event()


def takes_all_memory(call: Call) -> None:
    bytearray(1 << 46)


def takes_much_memory(call: Call) -> None:
    bytearray(b"x") * _MUCH


def starts_a_thread(call: Call) -> None:
    """The thread does its worst while the call goes on, and goes on after it."""

    def meddle() -> None:
        for change in (_change_body, _change_principal):
            try:
                change(call)
            except (AttributeError, TypeError):
                continue
        _MEDDLED.set()

    thread = threading.Thread(target=meddle)
    thread.start()
    _THREADS.append(thread)
    _MEDDLED.wait(10)


def _change_body(call: Call) -> None:
    call.body["prompt"] = "smuggled"  # type: ignore[index]


def _change_principal(call: Call) -> None:
    call.principal.name = "root"  # type: ignore[misc]


def counts_without_a_lock(call: Call) -> None:
    _SEEN[call.model or ""] = _SEEN.get(call.model or "", 0) + 1


def prints_all_it_can_reach(call: Call) -> None:
    sys.stdout.write(f"{call!r} {vars(type(call))} {dict(call.headers)}")
    sys.stderr.write(repr([getattr(call, name, None) for name in dir(call)]))


_BEHAVIOURS: Final[dict[str, Callable[[Call], None]]] = {
    function.__name__: function
    for function in (
        takes_all_memory,
        takes_much_memory,
        starts_a_thread,
        counts_without_a_lock,
        prints_all_it_can_reach,
    )
}


@dataclass(frozen=True)
class Guards:
    what: str

    @hookimpl
    def guard_request(self, call: Call) -> None:
        _BEHAVIOURS[self.what](call)


@dataclass(frozen=True)
class Answers:
    """Goes wrong with a whole reply."""

    what: str

    @hookimpl
    def rewrite_response(self) -> Any:
        if self.what == "raises":
            raise RuntimeError("broken")
        return "fine"


def _resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _plugin(kind: type, what: Callable[[Call], None] | str, **settings: Any) -> dict[str, Any]:
    name = what if isinstance(what, str) else what.__name__
    return {"use": f"{__name__}:{kind.__name__}", "options": {"what": name}, **settings}


def test_a_plugin_for_which_there_is_no_memory_denies_and_the_next_call_is_served() -> None:
    scoped = _plugin(Guards, takes_all_memory, when={"models": ["m"]})
    with gateway(plugins=[scoped]) as gate:
        refused(gate.ask(COMPLETION), 500, "plugin_failed")
        assert gate.upstream.connections == 0
        assert gate.ask({**COMPLETION, "model": "other"}).status == 200


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel shows no memory")
def test_what_a_plugin_took_for_one_call_is_given_back() -> None:
    with gateway(plugins=[_plugin(Guards, takes_much_memory)]) as gate:
        before = _resident()
        for _ in range(4):
            assert gate.ask(COMPLETION).status == 200
        assert _resident() - before < _MUCH // 4


def test_a_thread_that_a_plugin_started_changes_no_call() -> None:
    _MEDDLED.clear()
    with gateway(plugins=[_plugin(Guards, starts_a_thread)]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert gate.upstream.requests[0].json() == COMPLETION
        assert gate.record().principal == "alice"
    for thread in _THREADS:
        thread.join()


def test_state_that_a_plugin_shares_between_threads_mixes_no_calls() -> None:
    _SEEN.clear()
    counting = _plugin(Guards, counts_without_a_lock)
    with gateway(plugins=[counting]) as gate, ThreadPoolExecutor(32) as pool:
        bodies = [
            {"model": f"m{number % 2}", "prompt": f"prompt {number}"} for number in range(128)
        ]
        assert {answer.status for answer in pool.map(gate.ask, bodies)} == {200}
        # Byte for byte what each caller sent, whoever called beside it.
        assert sorted(request.body for request in gate.upstream.requests) == sorted(
            encoded(body).replace(b": ", b":").replace(b", ", b",") for body in bodies
        )


def test_a_plugin_that_prints_all_it_is_given_prints_no_key(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with gateway(plugins=[_plugin(Guards, prints_all_it_can_reach)]) as gate:
        assert gate.ask(COMPLETION, [*bearer(), ("cookie", "session=CaNaRy")]).status == 200
    printed = "".join(capfd.readouterr())
    assert "Hello" in printed
    for key in (KEY, UPSTREAM_KEY, "CaNaRy"):
        assert key not in printed


@pytest.mark.parametrize("what", ["raises", "garbage"])
def test_a_plugin_that_breaks_on_a_reply_withholds_it(what: str) -> None:
    with gateway(plugins=[_plugin(Answers, what)]) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (500, "plugin_failed")
        assert b"world" not in answer.body
