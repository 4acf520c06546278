"""``outgate plugins``: what is loaded, from where, with which options, and no secret."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

from proxy import Secret, Store, hookimpl, only
from proxy.cli import main

CONFIG = """
[access]
anonymous = "guest"
[store]
url = "sqlite:///STORE"
[upstreams.main]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
allow_private = true
[[routes]]
upstreams = ["main"]
[[plugins]]
use = "openai_compatible"
[[plugins]]
use = "regex_guard"
when = { groups = ["support"], endpoints = ["chat"] }
mode = "monitor"
deadline = 0.5
[plugins.options.patterns]
ticket = 'T-[0-9]{1,9}'
[[plugins]]
use = "tests.cli.test_plugins:Asks"
name = "asks"
on_error = "allow"
[plugins.options]
secret = { env = "A_SECRET" }
token = "hunter22hunter22"
url = "https://user:hunter22@policy.example.com/v1"
[[plugins]]
use = "tests.cli.test_plugins:Plain"
name = "plain"
[[plugins]]
use = "log_jsonl"
required = true
"""


@dataclass(frozen=True)
class Nested:
    depth: int = 3


@dataclass(frozen=True)
class Asks:
    secret: Secret
    store: Store
    token: str = ""
    url: str = ""
    other: Secret = field(default_factory=lambda: Secret("hunter22-default"))
    most: int = 7
    names: tuple[str, ...] = ("a", "b")
    nested: Nested = field(default_factory=Nested)
    _own: int = field(init=False, default=0)

    @hookimpl
    @only("chat")
    def guard_request(self) -> None: ...


class Plain(Struct, frozen=True):
    depth: int = 2

    @hookimpl
    def guard_request(self) -> None: ...


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("A_SECRET", "hunter22-from-the-environment")
    path = tmp_path / "outgate.toml"
    path.write_text(CONFIG.replace("STORE", str(tmp_path / "outgate.db")))
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["plugins", *words])


def loaded(config: Path) -> dict[str, Any]:
    result = run("--config", str(config), "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)["loaded"]}


def test_each_plugin_is_listed_in_order_with_where_it_comes_from(config: Path) -> None:
    rows = loaded(config)
    assert [row["order"] for row in rows.values()] == [1, 2, 3, 4, 5]
    guard = rows["regex_guard"]
    assert (guard["use"], guard["distribution"]) == ("regex_guard", "outgate")
    assert guard["from"] == "outgate (plugins.regex_guard:RegexGuard)"
    assert guard["hooks"] == {"detectors": None}
    assert guard["kinds"] == ["ticket"]
    assert guard["when"] == {"groups": ["support"], "endpoints": ["chat"]}
    assert (guard["mode"], guard["on_error"], guard["required"]) == ("monitor", "deny", False)
    assert guard["deadline"] == 0.5
    asks = rows["asks"]
    assert (asks["from"], asks["distribution"]) == ("tests.cli.test_plugins:Asks", None)
    assert asks["version"].startswith("sha256:")
    assert asks["hooks"] == {"guard_request": ["chat"]}
    assert (asks["on_error"], asks["deadline"]) == ("allow", 5.0)
    assert rows["log_jsonl"]["required"] is True


def test_options_are_shown_with_their_defaults_and_without_secrets(config: Path) -> None:
    asks = loaded(config)["asks"]
    assert asks["options"] == {
        "secret": "env A_SECRET",
        "token": "(not shown)",
        "url": "https://(not shown)@policy.example.com/v1",
    }
    assert asks["defaults"]["most"] == 7
    assert asks["defaults"]["names"] == ["a", "b"]
    assert asks["defaults"]["other"] == "Secret(***)"
    assert set(asks["defaults"]) == {"other", "most", "names", "nested"}
    assert loaded(config)["plain"]["defaults"] == {"depth": 2}
    for words in ((), ("--json",)):
        assert "hunter22" not in run("--config", str(config), *words).output


def test_for_people_it_is_a_table(config: Path) -> None:
    lines = [" ".join(line.split()) for line in run("--config", str(config)).output.splitlines()]
    assert any(
        line.startswith(
            "regex_guard detectors groups support and endpoints chat monitor deny outgate"
        )
        for line in lines
    )
    assert any(line.startswith("asks guard_request (chat) always enforce allow") for line in lines)
    assert any(line.startswith("log_jsonl log_exchange always enforce, required") for line in lines)
    assert "asks most 7 (default)" in lines
    assert "log_jsonl path - (default)" in lines


def test_without_a_configuration_it_lists_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "regex_guard" in run().output
    found = json.loads(run("--json").stdout)
    assert found["loaded"] == []
    assert {"name": "pii", "from": "plugins.pii:Pii", "distribution": "outgate"} in found[
        "installed"
    ]
    named = run("--config", "none.toml")
    assert named.exit_code == 1
    assert "none.toml: No such file" in named.output
