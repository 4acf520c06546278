"""The commands as an operator runs them, from a directory with a configuration in it."""

import csv
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.store import Store
from tests.store.servers import PEPPER, opened

CONFIG = """
[store]
pepper = { env = "TEST_PEPPER" }
[upstreams.main]
provider = "openai"
credential = { env = "NOT_NEEDED_HERE" }
[teams.research]
[teams.sales]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_PEPPER", PEPPER)
    (tmp_path / "outgate.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def store() -> Iterator[Store]:
    found = opened("sqlite:///outgate.db")
    yield found
    found.close()


def run(*words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["keys", *words])
    assert (result.exit_code or 0) == status or (status and result.exit_code == 2), result.output
    assert "Traceback" not in result.output
    return result


def told(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def test_a_key_is_made_and_its_secret_shown_once(store: Store) -> None:
    output = run("create", "alice", "--team", "research", "--model", "gpt-*", "--model", "o3",
                 "--label", "cost=4 2", "--expires", "90d").stdout  # fmt: skip
    secret = next(word for word in output.split() if word.startswith("og-"))
    assert "shown only now" in output
    key = store.keys.find(secret)
    assert key is not None
    assert (key.name, key.team, key.models) == ("alice", "research", ("gpt-*", "o3"))
    assert key.metadata == {"cost": "4 2"}
    assert key.expires is not None
    assert abs(key.expires - time.time() - 90 * 86400) < 3600
    shown = run("show", "alice").output + run("list").output + run("show", key.id, "--json").output
    assert key.id in shown
    assert secret not in shown


def test_quiet_prints_the_secret_alone(store: Store) -> None:
    for words in (["create", "alice"], ["rotate", "alice"]):
        secret = run(*words, "--quiet").stdout
        found = store.keys.find(secret.rstrip("\n"))
        assert found is not None
        assert found.name == "alice"


def test_json_is_for_programs(store: Store) -> None:
    made = told("create", "alice", "--owner", "a@example.com")
    assert store.keys.find(made.pop("secret")) is not None
    assert made["state"] == "live"
    assert told("list") == [made]
    assert told("show", "alice") == {**made, "former_secret_until": None}
    until = told("rotate", "alice", "--overlap", "1h")["former_secret_until"]
    assert abs(until - time.time() - 3600) < 600
    assert told("show", made["id"])["former_secret_until"] == pytest.approx(until, abs=600)
    assert [key["state"] for key in told("revoke", "alice")] == ["revoked"]


def test_the_list_shows_what_became_of_each_key(store: Store) -> None:
    run("create", "alice")
    run("create", "bob", "--expires", "1s")
    run("create", "carol", "--owner", "c@example.com")
    run("revoke", "alice")
    while "expired" not in run("list").output:
        time.sleep(0.1)
    rows = run("list").output.splitlines()
    assert [row.split()[1] for row in rows] == ["name", "alice", "bob", "carol"]
    assert ["revoked" in rows[1], "expired" in rows[2], "live" in rows[3]] == [True] * 3
    assert "no former" not in run("show", "alice").output


def test_rotation_says_until_when_both_secrets_are_taken(store: Store) -> None:
    first = told("create", "alice")["secret"]
    assert "former secret until: 2" in run("rotate", "alice").output
    assert store.keys.find(first)
    assert "former secret until" not in run("rotate", "alice", "--overlap", "0").output
    with_both = run("show", "alice").output
    assert "former_secret_until  -" in with_both


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "alice", "--team", "resaerch"], "Did you mean 'research'? There are: research"),
        (["create", "alice", "--upstream", "mian"], "Did you mean 'main'?"),
        (["create", "alice", "--endpoint", "chats"], "Did you mean 'chat'?"),
        (["create", "alice", "--network", "10.0.0.1/8"], "has host bits set"),
        (["create", "alice", "--label", "cost"], "write NAME=TEXT"),
        (["create", "alice", "--label", "team=x"], "is set by the key itself"),
        (["create", "alice", "--expires", "soon"], "write 90d, 2027-01-31"),
        (["create", "alice", "--expires", "2020-01-01"], "that moment has passed"),
        (["create", "taken"], "'taken' is taken"),
        (["rotate", "tacken"], "Did you mean 'taken'?"),
        (["rotate", "taken", "--overlap", "24"], "write 30m, 24h"),
        (["revoke", "taken", "nobody"], "no key 'nobody'"),
        (["show", "og-secret"], "that is a secret"),
    ],
)
def test_a_mistake_is_told_with_the_way_out_and_changes_nothing(
    words: list[str], message: str
) -> None:
    run("create", "taken")
    before = run("list").output
    result = run(*words, status=1)
    assert message in result.stderr
    assert run("list").output == before


def test_no_store_no_pepper_and_no_database_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = folder / "outgate.toml"
    config.write_text("[stroe]\n")
    assert "Did you mean 'stroe'? Add [store]" in run("list", status=1).stderr
    config.write_text("[store]\n")
    assert "openssl rand -hex 32" in run("create", "alice", status=1).stderr
    assert run("list").output.split()[0] == "id"  # needs none
    (folder / "outgate.db").write_bytes(b"This is no database." * 1000)
    assert "does not answer" in run("list", status=1).stderr
    monkeypatch.delenv("TEST_PEPPER")
    config.write_text(CONFIG)
    assert "'TEST_PEPPER' is not set" in run("list", status=1).stderr


# -- import --------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> str:
    (folder / "people.csv").write_text(text, encoding="utf-8")
    return "people.csv"


def test_a_file_becomes_keys_and_a_file_of_secrets(folder: Path, store: Store) -> None:
    file = write(
        folder,
        "\ufeffname,team,models,expires,label.cost\r\n"
        'alice,research,"gpt-4* o3",90d,42\r\n'
        '"Bob, Jr.",,,,\r\n',
    )
    result = run("import", file, "--output", "secrets.csv")
    assert "2 keys are made" in result.stdout
    assert "og-" not in result.output
    path = folder / "secrets.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as secrets:
        rows = list(csv.DictReader(secrets))
    assert [row["name"] for row in rows] == ["alice", "Bob, Jr."]
    alice, bob = (store.keys.find(row["secret"]) for row in rows)
    assert alice is not None
    assert bob is not None
    assert (alice.id, bob.id) == (rows[0]["id"], rows[1]["id"])
    assert (alice.team, alice.models, alice.metadata) == (
        "research",
        ("gpt-4*", "o3"),
        {"cost": "42"},
    )
    assert (bob.team, bob.models, bob.metadata, bob.expires) == (None, (), {}, None)


def test_a_thousand_keys_are_imported_in_one_go(folder: Path, store: Store) -> None:
    file = write(folder, "name\n" + "".join(f"n{number}\n" for number in range(1200)))
    run("import", file, "--output", "secrets.csv")
    assert len(store.keys.list()) == 1200
    last = (folder / "secrets.csv").read_text().splitlines()[-1].split(",")
    assert store.keys.find(last[2])


def test_every_line_that_will_not_do_is_told_and_nothing_is_made(folder: Path) -> None:
    run("create", "taken")
    file = write(folder, "name,team,endpoints,networks,expires\nok,,,,\ntaken,,,,\nok,,,,\n,,,,\n"
                 "a,resaerch,,,\nb,,chats,,\nc,,,10.0.0.1/8,\nd,,,,soon\ne,,,,2020-01-01\nf,,\n")  # fmt: skip
    error = run("import", file, "--output", "secrets.csv", status=1).stderr
    for line, message in (
        (3, "'taken' is taken"),
        (4, "'ok' is that of line 2"),
        (5, "name = ''"),
        (6, "Did you mean 'research'?"),
        (7, "Did you mean 'chat'?"),
        (8, "has host bits set"),
        (9, "write 90d"),
        (10, "has passed"),
        (11, "more or fewer cells"),
    ):
        told = next(text for text in error.splitlines() if text.strip().startswith(f"line {line}:"))
        assert message in told
    assert "no key was made, 9 lines" in error
    assert len(run("list").output.splitlines()) == 2
    assert not (folder / "secrets.csv").exists()


def test_a_long_list_of_mistakes_is_cut(folder: Path) -> None:
    file = write(folder, "name\n" + "x\n" * 50)
    error = run("import", file, "--output", "secrets.csv", status=1).stderr
    assert "no key was made, 49 lines" in error
    assert "and 29 more" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one of them is name"),
        ("name\n", "there is no line below"),
        ("team\nresearch\n", "one of them is name"),
        ("name,name\na,b\n", "each column once"),
        ("name,modles\na,b\n", "Did you mean 'models'?"),
        ('name\n"a\n', "not CSV"),
    ],
)
def test_a_file_of_another_form_is_refused(folder: Path, text: str, message: str) -> None:
    assert message in run("import", write(folder, text), "--output", "secrets.csv", status=1).stderr
    assert not (folder / "secrets.csv").exists()


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "people.csv").write_bytes(b"name\n\xff\xfe\n")
    assert "UTF-8" in run("import", "people.csv", "--output", "secrets.csv", status=1).stderr


def test_secrets_never_overwrite_a_file_and_are_removed_when_nothing_was_made(folder: Path) -> None:
    file = write(folder, "name\nalice\n")
    (folder / "secrets.csv").write_text("precious")
    error = run("import", file, "--output", "secrets.csv", status=1).stderr
    assert "Choose another --output" in error
    assert (folder / "secrets.csv").read_text() == "precious"
    (folder / "outgate.toml").write_text("[store]\n")  # no pepper: fails when the file is open
    run("import", file, "--output", "other.csv", status=1)
    assert not (folder / "other.csv").exists()
