import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.store import schema
from proxy.store.migrations import STEPS
from tests.store.servers import opened

NOW = STEPS[-1].number


def run(path: Path, *words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["db", *words, "--config", str(path)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def config(store_url: str, tmp_path: Path) -> Path:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "{store_url}"\n')
    return path


def test_an_upgrade_makes_what_status_misses(config: Path) -> None:
    assert "run outgate db upgrade" in run(config, "status").output
    assert f"applied 1: {STEPS[0].title}" in run(config, "upgrade").output
    assert "up to date" in run(config, "status").output
    again = run(config, "upgrade").output
    assert "applied" not in again
    assert f"schema {NOW}, up to date" in again


def test_status_is_for_programs_too(config: Path, store_url: str) -> None:
    run(config, "upgrade")
    found = json.loads(run(config, "status", "--json").stdout)
    assert found["database"] in store_url
    assert (found["schema"], found["known"]) == (NOW, NOW)


def test_a_newer_database_is_told_and_left_alone(config: Path, store_url: str) -> None:
    store = opened(store_url)
    with store.writing() as connection:
        row = {"number": NOW + 1, "title": "from the future", "applied": 0}
        connection.execute(schema.steps.insert(), row)
    assert "newer Outgate" in run(config, "status").output
    assert "install that version again" in run(config, "upgrade", status=1).output
    with store.reading() as connection:
        assert connection.execute(sa.select(sa.func.max(schema.steps.c.number))).scalar() == NOW + 1


def test_a_database_that_does_not_answer_ends_the_command_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text('[store]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n')
    for command in ("status", "upgrade"):
        assert "does not answer" in run(path, command, status=1).output
