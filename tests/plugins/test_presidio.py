"""One process holds the model for all workers; while it is away nothing passes. Presidio itself where it is there."""

import contextlib
import importlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from plugins.presidio.client import Side, lock_file
from plugins.presidio.side import Found, Server
from proxy import ConfigError, Unavailable, testing
from proxy.testing import Harness, PluginFailed
from tests.records import eventually


def harness(plugin: str, **options: Any) -> Harness:
    """Without what is looked at unasked: each of those calls would ask the service."""
    return testing.harness(plugin, **options).given(checks=False)


installed = pytest.mark.skipif(
    find_spec("presidio_analyzer") is None,
    reason="presidio is not installed: pip install 'outgate[presidio]' (some 200 MB)",
)
CARD = "4111 1111 1111 1111"


def digits(text: str) -> Found:
    """What a model of three lines finds."""
    return {"DIGIT": [(at, at + 1) for at, one in enumerate(text) if one.isdigit()]}


@contextmanager
def serving(side: Side, found: Any = digits) -> Iterator[Server]:
    """A process's part, played by a thread; the lock is held as it would be."""
    with lock_file(side.path) as alone, Server(str(side.path), found) as server:
        assert alone
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            side.path.unlink()


@pytest.fixture
def folder() -> Iterator[str]:
    """One whose name is short enough for sockets, as those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="og-", ignore_cleanup_errors=True) as found:
        yield found


@pytest.fixture
def side(folder: str) -> Side:
    return Side({"language": "en"}, folder, timeout=10.0)


def test_what_is_found_comes_back_in_characters(side: Side) -> None:
    with serving(side):
        assert side.found("a1 ✓2") == {"DIGIT": [(1, 2), (4, 5)]}
        assert side.found("") == {"DIGIT": []}
        assert side.found("x" * 3_000_000 + "7") == {"DIGIT": [(3_000_000, 3_000_001)]}


def test_many_threads_may_ask_at_once(side: Side) -> None:
    answers: list[Any] = []
    with serving(side):
        asking = [
            threading.Thread(target=lambda: answers.append(side.found("a1"))) for _ in range(20)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert answers == [{"DIGIT": [(1, 2)]}] * 20


def test_a_worker_stays_connected_so_that_the_process_knows_it_is_needed(side: Side) -> None:
    with serving(side) as server:
        side.found("a")
        side.found("b")
        eventually(lambda: server.connections == 1)


def test_only_this_user_may_ask(side: Side) -> None:
    mask = os.umask(0o077)
    try:
        with serving(side):
            assert side.path.stat().st_mode & 0o077 == 0
    finally:
        os.umask(mask)


@pytest.mark.parametrize("answer", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2{", b"\0\0\0\2no"])
def test_what_is_no_answer_is_never_taken_for_nothing_found(side: Side, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener, lock_file(side.path):
        listener.bind(str(side.path))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(0.2)
                    with contextlib.suppress(TimeoutError):
                        sock.recv(65536)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unavailable, match="not ready"):
            side.found("a1")
        thread.join()


def test_while_nobody_is_there_nothing_passes(side: Side) -> None:
    with lock_file(side.path), pytest.raises(Unavailable, match="not ready"):
        side.found("a1")


@pytest.fixture
def guarded(folder: str) -> Harness:
    return harness("presidio", entities=["CREDIT_CARD", "EMAIL_ADDRESS"], directory=folder)


def when_ready(guarded: Harness, prompt: str) -> Any:
    """The result once the model is loaded; before, every call is refused."""
    results: list[Any] = []

    def ask() -> bool:
        with contextlib.suppress(PluginFailed):
            results.append(guarded.completions(prompt=prompt))
        return bool(results)

    eventually(ask)
    return results[0]


@installed
def test_presidio_finds_what_it_knows_and_the_policy_decides(guarded: Harness) -> None:
    assert when_ready(guarded, "Nothing to see.").denied is None
    denied = guarded.completions(prompt=f"Pay with {CARD}, write to a@example.com")
    assert {finding.kind for finding in denied.record.findings} == {
        "presidio-credit-card",
        "presidio-email-address",
    }
    masked = guarded.given(config={"policy": {"request": {"presidio": "redact"}}})
    padding = "word " * 2000
    body = masked.completions(prompt=f"{padding}✓ Pay with {CARD} now. {padding}").body
    assert body["prompt"] == f"{padding}✓ Pay with [PRESIDIO-CREDIT-CARD] now. {padding}"


@installed
def test_a_model_that_knows_names_finds_them_by_its_own_judgement(folder: str) -> None:
    spacy: Any = importlib.import_module("spacy")
    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])
    model.to_disk(f"{folder}/model")
    options = {"model": f"{folder}/model", "directory": folder}
    denied = when_ready(harness("presidio", entities=["PERSON"], **options), "Ask Ada Lovelace.")
    assert [finding.kind for finding in denied.record.findings] == ["presidio-person"]


@installed
def test_a_process_that_dies_is_replaced_and_nothing_passes_meanwhile(guarded: Harness) -> None:
    assert when_ready(guarded, "Nothing.").denied is None
    (lock,) = _directory(guarded).glob("*.lock")
    first = _holder(lock)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: _holder(lock) != first)
    assert when_ready(guarded, f"Pay with {CARD}").denied is not None


def _directory(guarded: Harness) -> Path:
    return Path(guarded.entry.options["directory"])


def _holder(lock: Path) -> int:
    """The process that has the file open, or 0."""
    for found in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if found.resolve() == lock.resolve() and int(found.parts[2]) != os.getpid():
                return int(found.parts[2])
        except OSError:
            continue
    return 0


@installed
@pytest.mark.parametrize(
    "options",
    [{"entities": ["PERSON"]}, {"entities": ["CREDIT_CARD"], "model": "no_such_model"}],
)
def test_a_process_that_cannot_find_what_it_should_lets_nothing_pass(
    folder: str, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    guarded = harness("presidio", directory=folder, **options)
    told: list[str] = []

    def said() -> bool:
        with pytest.raises(PluginFailed):
            guarded.completions()
        told.append(capfd.readouterr().err)
        said = "".join(told)
        return "nothing finds PERSON" in said or "'no_such_model' is not installed" in said

    eventually(said)


@installed
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "'entities' is missing"),
        ({"entities": []}, "write e.g. entities"),
        ({"entities": ["person"]}, "no entity"),
        ({"entities": ["PERSON"], "score": 2.0}, "score = 0.5"),
        ({"entities": ["PERSON"], "window": 5}, "at least 100"),
        ({"entities": ["PERSON"], "language": "english!"}, 'language = "en"'),
        ({"entities": ["PERSON"], "directory": "/nowhere"}, "no such directory"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("presidio", **options)


def test_a_socket_has_a_short_path_in_a_folder_of_this_user(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    with pytest.raises(ConfigError, match="too long for a socket"):
        Side({}, str(deep), timeout=1.0)
    link = tmp_path / "link"
    link.symlink_to(deep)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        Side({}, str(link), timeout=1.0)


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="presidio is installed")
def test_without_the_library_the_start_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match=r"outgate\[presidio\]"):
        harness("presidio", entities=["PERSON"])
