"""The tutorial, done as its reader does it: every file written, every command run, every output seen."""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pages import DOCS
from tests.ports import free_port

PAGE: Final = DOCS / "tutorial.md"
PATIENCE: Final = 120.0
_BLOCK: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(ports: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    """Each block: its language, the file it is (or nothing), and its text, at ports that are free."""
    text = PAGE.read_text()
    for written, port in ports.items():
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    yield from _BLOCK.findall(text)


class Reader:
    """Somebody who types what the page says."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        quiet = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
        self._environment = {**os.environ, **quiet, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.seen = ""

    def type(self, line: str) -> None:
        """Run a command, to its end or, with ``&``, in the background until it listens."""
        if line.endswith(" &"):
            self._start(shlex.split(line.removesuffix(" &")))
            return
        ended = subprocess.run(
            line, shell=True, cwd=self._folder, env=self._environment, capture_output=True,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        self.seen += ended.stdout + ended.stderr
        assert ended.returncode == 0 or line.startswith("pytest "), self.seen

    def _start(self, words: list[str]) -> None:
        process = subprocess.Popen(words, cwd=self._folder, env=self._environment)
        self._stack.callback(process.wait, PATIENCE)
        self._stack.callback(process.terminate)
        host, _, port = words[words.index("--bind") + 1].partition(":")
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
                return
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def expect(self, text: str) -> None:
        """Look for every line in what was seen since the last time; ``…`` stands for anything."""
        shown = " ".join(self.seen.split())
        for line in text.splitlines():
            pattern = ".*?".join(map(re.escape, " ".join(line.split()).split("…")))
            assert re.search(pattern, shown), f"{line!r} is not in:\n{self.seen}"
        self.seen = ""


@pytest.mark.timeout(900)
def test_who_follows_the_tutorial_sees_what_it_says(tmp_path: Path) -> None:
    ports = {"8000": free_port(), "9000": free_port()}
    with contextlib.ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for language, file, text in blocks(ports):
            if file:
                (tmp_path / file).write_text(text)
            elif language == "console":
                for line in text.splitlines():
                    reader.type(line.removeprefix("$ "))
            else:
                assert language == "text"
                reader.expect(text)


def test_every_block_of_the_tutorial_is_run_written_or_expected() -> None:
    kinds = {(language, bool(file)) for language, file, _ in blocks({})}
    assert kinds == {("console", False), ("text", False), ("py", True), ("toml", True)}
    assert PAGE.read_text().count("\n```") == 2 * len(list(blocks({})))
