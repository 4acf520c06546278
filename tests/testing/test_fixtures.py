"""The fixtures, in a suite of their own as an author has one; and that they are not loaded unasked."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.pages import DOCS

BLOCK: Final = re.compile(r"^```py (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_a_suite_that_asks_for_the_fixtures_has_them(tmp_path: Path) -> None:
    written = dict(BLOCK.findall((DOCS / "testing-plugins.md").read_text()))
    assert set(written) == {"conftest.py", "test_masking.py"}
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    done = _pytest(tmp_path, "-W", "error")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_suite_that_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it(): assert 'proxy' not in sys.modules\n"
    )
    done = _pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def _pytest(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    return subprocess.run(
        [*command, "--rootdir", ".", *words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, check=False,
    )  # fmt: skip
