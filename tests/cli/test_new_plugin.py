"""What ``new-plugin`` writes works, in every kind and both forms; bad names and existing files are refused."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.cli.new_plugin import KINDS

ROOT: Final = Path(__file__).parents[2]
#: As short, as usual and as long as a name can be: the form of the lines must not depend on it.
NAMES: Final = ("x9{}", "my_{}", "a_name_of_the_greatest_len_{:_<5.5}")
#: What is imported is told of as it is where Outgate is installed: not at all.
MYPY: Final = ("mypy", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'kit'}")
CONFIG: Final = """
[access]
anonymous = "guest"
[upstreams.main]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
allow_private = true
[[routes]]
upstreams = ["main"]
[[plugins]]
use = "openai_compatible"
"""


#: A cold type checker takes its time on a busy machine.
patient: Final = pytest.mark.timeout(900)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["new-plugin", *words])


def done(folder: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A program of this environment, which must end well."""
    program = Path(sys.executable).with_name(command[0])
    ended = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def named(kind: str) -> list[str]:
    return [pattern.format(kind) for pattern in NAMES]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind in the form of one file, under each of the names."""
    folder = tmp_path_factory.mktemp("single")
    for kind in KINDS:
        for name in named(kind):
            result = run(name, "--kind", kind, "--output", str(folder))
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind in the form of a package, installed below ``site``."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        result = run(f"our_{kind}", "--kind", kind, "--package", "--output", str(folder))
        assert result.exit_code == 0, result.output
    wanted = [str(path) for path in sorted(folder.iterdir())]
    done(
        folder, "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--no-build-isolation", "--no-index", "--target", "site", *wanted,
    )  # fmt: skip
    return folder


@patient
def test_single_files_pass_their_own_tests(single: Path) -> None:
    command = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-c", os.devnull]
    ended = done(single, "python", *command, "--rootdir", ".", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert f"{len(NAMES) * 12} passed" in ended.stdout


@patient
def test_single_files_are_to_the_liking_of_linter_and_type_checker(single: Path) -> None:
    config = str(ROOT / ".ruff.toml")
    ignored = "--ignore=INP001,D100,D103,S101,PLR2004"  # what only packages and tests are asked for
    # Seen from a folder of their own, proxy is somebody else's.
    own = 'lint.isort.known-first-party = ["tests"]'
    done(single, "ruff", "check", "--no-cache", "--config", config, "--config", own, ignored, ".")
    done(single, "ruff", "format", "--no-cache", "--check", "--config", config, ".")
    files = sorted(path.name for path in single.glob("*.py"))
    done(single, *MYPY, "--strict", *files)


@patient
@pytest.mark.parametrize("kind", KINDS)
def test_a_package_passes_its_own_tests_linter_and_type_checker(packages: Path, kind: str) -> None:
    folder = packages / f"outgate-our-{kind}"
    site = str(packages / "site")
    ended = done(
        folder, "python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
        PYTHONPATH=site, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )  # fmt: skip
    assert " passed" in ended.stdout
    done(folder, "ruff", "check", "--no-cache", ".")
    done(folder, "ruff", "format", "--no-cache", "--check", ".")
    done(folder, *MYPY)


@patient
def test_installed_packages_are_loaded_by_their_names(packages: Path, tmp_path: Path) -> None:
    text = CONFIG
    for kind in KINDS:
        text += f'[[plugins]]\nuse = "our_{kind}"\n'
        text += f'options = {{ path = "{tmp_path}/calls" }}\n' if kind == "sink" else ""
    (tmp_path / "outgate.toml").write_text(text)
    site = str(packages / "site")
    checked = done(tmp_path, "outgate", "check", PYTHONPATH=site)
    assert "outgate.toml: ok, digest " in checked.stdout
    listed: Any = json.loads(done(tmp_path, "outgate", "plugins", "--json", PYTHONPATH=site).stdout)
    found: dict[str, Mapping[str, Any]] = {row["name"]: row for row in listed["loaded"]}
    assert found["our_guard"]["distribution"] == "outgate-our-guard"
    assert found["our_guard"]["version"] == "0.1.0"
    assert found["our_detector"]["kinds"] == ["our-detector"]
    typed = packages / "site" / "outgate_our_guard" / "py.typed"
    assert typed.exists()


@pytest.mark.parametrize(
    ("name", "reason", "offer"),
    [
        ("Ticket-Numbers", "up to 32 small letters, digits and underscores", "ticket_numbers"),
        ("TicketNumbers", "small letters", "ticket_numbers"),
        ("9lives", "begins with a letter", "lives"),
        ("ünïcode", "small letters", "n_code"),
        ("a.b", "small letters", "a_b"),
        ("../evil", "small letters", "evil"),
        ("", "begins with a letter", "my"),
        ("x" * 33, "up to 32", "x" * 20),
        ("class", "a word of Python itself", "class_guard"),
        ("match", "a word of Python itself", "match_guard"),
        (
            "secrets",
            "a plugin of this name is installed (plugins.secrets:Secrets)",
            "secrets_guard",
        ),
        ("json", "would hide the module of Python's library", "json_guard"),
        ("requests", "would hide an installed module", "requests_guard"),
        ("proxy", "has a meaning to Outgate or to pytest", "proxy_guard"),
        ("test_tickets", "has a meaning to Outgate or to pytest", "tickets"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason_and_a_better_one(
    name: str, reason: str, offer: str, tmp_path: Path
) -> None:
    result = run(name, "--output", str(tmp_path))
    assert result.exit_code == 1
    assert reason in result.output
    assert f"Take {offer!r}, for instance." in result.output
    assert list(tmp_path.iterdir()) == []
    assert run(offer, "--output", str(tmp_path)).exit_code == 0


def test_a_package_may_have_the_name_of_a_module_for_its_own_has_another(tmp_path: Path) -> None:
    assert run("json", "--package", "--output", str(tmp_path)).exit_code == 0
    assert run("secrets", "--package", "--output", str(tmp_path)).exit_code == 1


@pytest.mark.parametrize("existing", ["guarded.py", "test_guarded.py"])
def test_an_existing_file_is_never_overwritten(existing: str, tmp_path: Path) -> None:
    (tmp_path / existing).write_text("mine")
    result = run("guarded", "--output", str(tmp_path))
    assert result.exit_code == 1
    assert f"{existing}: File exists. Choose another name or --output." in result.output
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_an_existing_package_is_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    words = ("guarded", "--package", "--output", str(tmp_path))
    assert run(*words).exit_code == 0
    again = run(*words, "--kind", "sink")
    assert again.exit_code == 1
    assert "File exists" in again.output


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("guarded", "--output", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    assert "Choose another --output." in result.output


def test_it_says_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("ticket_numbers", "--kind", "detector").output
    assert "ticket_numbers.py is written" in told
    assert "pytest test_ticket_numbers.py" in told
    assert 'use = "ticket_numbers:TicketNumbers"' in told
    packaged = run("ticket_numbers", "--package").output
    assert "cd outgate-ticket-numbers" in packaged
    assert 'use = "ticket_numbers"' in packaged
