"""Every threat has tests that prove what is promised against it; they are found by reading, not by running."""

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
THREATS: Final[dict[str, dict[str, Any]]] = tomllib.loads(
    (ROOT / "tests" / "threats.toml").read_text()
)
#: How many rows each table has: body, prompts, HTTP, way out, streams, plugins that fail, system.
TABLES: Final = {"J": 17, "P": 9, "H": 12, "S": 9, "T": 9, "F": 12, "K": 12}


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests of a file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    functions = (
        node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
    )
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_row_of_every_table_is_there_and_no_other() -> None:
    expected = [
        f"{table}{row}" for table, rows in TABLES.items() for row in range(1, rows + 1)
    ]  # fmt: skip
    assert list(THREATS) == expected


@pytest.mark.parametrize("threat", THREATS)
def test_every_threat_says_what_is_promised_and_has_tests_that_exist(threat: str) -> None:
    row = THREATS[threat]
    assert set(row) == {"promise", "tests"}
    assert row["promise"].endswith(".")
    assert row["tests"]
    for node in row["tests"]:
        path, _, name = node.partition("::")
        assert name in names_in(path), f"{threat}: {node} does not exist"


def test_a_test_that_names_a_threat_is_on_the_map() -> None:
    mapped = {node for row in THREATS.values() for node in row["tests"]}
    named = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in names_in(str(path.relative_to(ROOT)))
        if name.split("_")[1].upper() in THREATS
    }
    assert named <= mapped
