"""What stands on the pages works: code runs, configurations are accepted, commands, keys and links exist."""

import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from proxy import config, manual
from proxy.app import assemble, create_app
from proxy.cli import main
from proxy.demo import create_upstream, running
from tests.pages import DOCS, PAGES, ROOT, blocks, named, prose

_LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_SERVER: Final = "https://outgate.example.com"
_SECRET: Final = "sk-0123456789abcdef"
PORTKEY: Final = {
    "providers": {"openai": "demo", "together-ai": "chats"},
    "configs": {"pc-production": {"provider": "openai", "retry": {"attempts": 2}}},
}
KEY: Final = {"name": "alice", "key": {"env": "ALICE_KEY"}}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever secret a page names is there, and pages are read from where the examples are."""
    for page in PAGES:
        for name in re.findall(r'env = "(\w+)"', page.read_text()):
            monkeypatch.setenv(name, f"{_SECRET}-{name}")
    monkeypatch.setenv("OUTGATE_KEY", f"{_SECRET}-ALICE_KEY")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.fixture
def gateway(environment: None) -> Iterator[str]:
    """The base URL of a gateway in front of the demo upstream."""
    with running(create_upstream()) as upstream:
        demo = {
            "provider": "openai_compatible",
            "base_url": f"{upstream}/v1",
            "allow_private": True,
        }
        document = {
            "upstreams": {"demo": demo, "chats": {**demo, "bridge": {"always": True}}},
            "routes": [
                {"upstreams": ["chats"], "models": ["gpt-4o-mini"]},
                {"upstreams": ["demo"]},
            ],
            "plugins": [
                {"use": "openai_compatible"},
                {"use": "static_keys", "options": {"keys": [KEY]}},
                {"use": "portkey", "options": PORTKEY},
            ],
        }
        with running(create_app(config.parse(document))) as base:
            yield base


@named([page for page in PAGES if blocks(page, "python")])
def test_the_python_code_of_a_page_runs(
    page: Path, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("page_" + page.stem.replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for text in blocks(page, "python"):
        exec(compile(text.replace(_SERVER, gateway), str(page), "exec"), vars(module))
    for name, value in list(vars(module).items()):
        if name.startswith("test_"):
            value()
        _close(value)


def _close(value: Any) -> None:
    """SDKs on a page are not closed there; left open they warn."""
    if type(value).__name__ in {"OpenAI", "Portkey"}:
        for client in (value, getattr(value, "openai_client", value)):
            client._client.close()


@named([page for page in PAGES if blocks(page, "toml")])
def test_the_configuration_of_a_page_is_accepted(page: Path, environment: None) -> None:
    for text in blocks(page, "toml"):
        if "[[case]]" in text:  # policy tests, which tests/rehearsal/test_page.py runs
            continue
        loaded = config.parse(tomllib.loads(text), page.name)
        if text.startswith("# outgate.toml"):
            assemble(loaded)


def lines(page: Path) -> list[list[str]]:
    """Every use of the command on a page, in words: in console blocks and within sentences."""
    console = [
        line.removeprefix("$ ") for part in blocks(page, "console") for line in part.splitlines()
    ]
    inline = re.findall(r"`((?:\S*/)?outgate [^`]+)`", prose(page))
    return [
        words
        for line in [*console, *inline]
        if (words := shlex.split(line, comments=True)) and Path(words[0]).name == "outgate"
    ]


@named([page for page in PAGES if lines(page)])
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for _, *words in lines(page):
        if words[0].startswith("-"):
            assert CliRunner().invoke(main, words).exit_code == 0
            continue
        command = main.commands[words[0]]
        if isinstance(command, click.Group) and len(words) > 1:
            command = command.commands[words[1]]
        assert CliRunner().invoke(command, ["--help"]).exit_code == 0
        options = {option for param in command.params for option in param.opts} | {"--help"}
        assert {word.split("=")[0] for word in words[1:] if word.startswith("--")} <= options


@named(PAGES)
def test_the_topics_of_a_page_exist(page: Path) -> None:
    topics = re.findall(r"outgate docs ([a-z][a-z-]+(?:\.txt)?)", page.read_text())
    assert set(topics) <= {*manual.pages(), manual.MAP}


@named(PAGES)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(prose(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            sections = manual.Page(path.stem, "", path.read_text()).sections()
            assert anchor in {section.anchor for section in sections}


@named(PAGES)
def test_the_keys_a_page_names_exist(page: Path) -> None:
    settings = {
        f"{table_name}.{field}"
        for table_name in ("limits", "access", "parameters", "policy")
        for field in config.Config.__annotations__[table_name].__struct_fields__
    }
    text = page.read_text()
    assert set(re.findall(r"`((?:limits|access|parameters|policy)\.\w+)", text)) <= settings
    tables = {*re.findall(r"`\[\[(\w+)", text), *re.findall(r"`\[(\w+)\.", text)}
    assert tables - {"integer"} <= set(config.Config.__struct_fields__)  # a type, not a table


@named(PAGES)
def test_the_modules_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:proxy|plugins)(?:\.[a-z_]+)+)`", page.read_text()):
        resolve_name(name)


@named(PAGES)
def test_a_page_begins_with_its_title(page: Path) -> None:
    assert page.read_text().startswith("# ")


def test_docs_lists_and_prints_every_page() -> None:
    listed = CliRunner().invoke(main, ["docs"]).output
    for page in DOCS.glob("*.md"):
        assert page.stem in listed
        assert page.read_text() in CliRunner().invoke(main, ["docs", page.stem]).output
