"""The wheel holds what the repository holds, byte for byte, and nothing that runs by itself."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
_SHIPPED: Final = ("proxy/", "plugins/", "wsgi.py")
_NEEDED: Final = ("setup.cfg", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the distribution, as the repository lists them."""
    command = ["git", "ls-files", "-z", *_SHIPPED, *_NEEDED]
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no working copy of the repository")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(
    tmp_path_factory: pytest.TempPathFactory, tracked: list[str]
) -> Iterator[zipfile.ZipFile]:
    """Built from the tracked files alone, offline."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(source / "dist"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stderr
    [built] = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_it_holds_exactly_the_tracked_files_and_its_metadata(
    wheel: zipfile.ZipFile, tracked: list[str]
) -> None:
    names = wheel.namelist()
    files = {name for name in names if not re.match(r"outgate-[^/]+\.dist-info/", name)}
    assert files == {name for name in tracked if name not in _NEEDED}
    assert len(names) == len(set(names))
    metadata = {Path(name).name for name in set(names) - files}
    assert metadata == {
        "LICENSE",
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "top_level.txt",
    }


def test_every_file_is_that_of_the_repository(wheel: zipfile.ZipFile, tracked: list[str]) -> None:
    for name in tracked:
        if name not in _NEEDED:
            assert wheel.read(name) == (ROOT / name).read_bytes(), name


def test_nothing_in_it_runs_when_python_starts(wheel: zipfile.ZipFile) -> None:
    for name in wheel.namelist():
        assert not name.endswith((".pth", ".so", ".pyd", ".pyc")), name
        assert Path(name).name not in {"sitecustomize.py", "usercustomize.py"}, name
    [entries] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    scripts = wheel.read(entries).decode().partition("[console_scripts]")[2].partition("[")[0]
    assert scripts.split() == ["outgate", "=", "proxy.cli:main"]
