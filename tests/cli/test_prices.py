"""``outgate prices``, as it is typed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main

PRICES: Final = """
[[prices]]
models = ["gpt-4o*"]
input = 2.50
output = 10
since = {old}

[[prices]]
models = ["gpt-4o-mini", "o?-mini"]
input = 0.15
cached = 0.075
output = 0.60
since = {old}

[[prices]]
models = ["gpt-4o-m*"]
input = 9
since = {old}

[[prices]]
models = ["*"]
input = 1
since = {coming}

[[routes]]
models = ["gpt-4o", "mistral", "llama-*"]
upstreams = ["main"]

[teams.research]
models = ["gpt-4o-mini"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    today = datetime.now(UTC).date()
    dates = {"old": today - timedelta(days=91), "coming": today + timedelta(days=1)}
    path = tmp_path / "outgate.toml"
    path.write_text(PRICES.format(**dates))
    return path


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--config", str(path)])


def lines(result: Result) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    return {words[0]: words[1:] for line in result.output.splitlines() if (words := line.split())}


def test_prices_check_says_which_entry_prices_which_model(path: Path) -> None:
    result = run(path, "prices", "check", "gpt-4o-mini", "gpt-4o-max")
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert found["prices[0]"][-1] == "stale"
    assert found["prices[3]"][-1] == "future"
    assert found["gpt-4o-mini"][0] == "prices[1]"
    assert "prices[0] (gives way), prices[2] (gives way), prices[3] (not yet)" in result.output
    assert found["gpt-4o-max"][0] == "prices[0]"
    assert "prices[0] and prices[2] have one date" in result.output
    assert "over 90 days ago" in result.output


def test_prices_check_looks_at_the_models_that_are_configured_and_fails_where_one_has_none(
    path: Path,
) -> None:
    result = run(path, "prices", "check")
    assert result.exit_code == 1
    assert lines(result)["mistral"] == ["MISSING", "prices[3]", "(not", "yet)"]
    assert {"gpt-4o", "gpt-4o-mini"} <= set(lines(result))
    assert "llama" not in result.output
    assert "no price for 'mistral'. Add [[prices]]" in result.output


def test_prices_check_without_prices_says_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text("")
    assert run(path, "prices", "check").exit_code == 0
    assert "Add [[prices]]" in run(path, "prices", "check", "m").output
    path.write_text("[prices]\ninput = 1\n")
    assert "with two brackets" in run(path, "prices", "check").output
    path.write_text('[[prices]]\nmodels = ["m"]\ninptu = 1\n')
    result = run(path, "prices", "check")
    assert "prices[0]: unknown key 'inptu'" in result.output
