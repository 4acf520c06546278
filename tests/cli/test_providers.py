"""``outgate providers`` and ``outgate init`` for each of them, as they are typed."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from proxy import Provider, hookimpl
from proxy.app import assemble
from proxy.cli import main
from proxy.cli.provided import open_settings, provided
from proxy.config import parse

PROVIDED: Final = provided()
NAMES: Final = sorted(PROVIDED)


@dataclass(frozen=True)
class Own:
    """A provider of somebody's own."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        yield Provider(name="own", title="Our own", paths={"completions": "/c"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def rows(result: Result) -> dict[str, list[str]]:
    """The lines of a table, in cells, by their first one."""
    lines = result.output.partition("\n\n")[0].splitlines()
    return {cells[0]: cells for line in lines if (cells := re.split(r"\s{2,}", line))}


def test_the_table_has_every_provider_with_its_routes_its_key_and_its_plugin(folder: Path) -> None:
    table = rows(run("providers"))
    assert set(table) == {"name", *NAMES}
    heads = "name title completions chat embeddings models key_in plugin base_URL"
    assert [head.replace(" ", "_") for head in table["name"]] == heads.split()
    key, base_url = "MISTRAL_API_KEY", "https://api.mistral.ai/v1"
    routes = ["bridge + fill-in", "yes", "yes", "yes"]
    assert table["mistral"] == ["mistral", "Mistral AI", *routes, key, "providers", base_url]
    assert table["ollama"][2:7] == ["native", "yes", "yes", "yes", "-"]
    assert table["openai_compatible"][-2:] == ["openai_compatible", "yours"]


def test_a_configuration_says_what_is_listed_and_needs_no_key_for_that(folder: Path) -> None:
    (folder / "outgate.toml").write_text(
        '[upstreams.a]\nprovider = "groq"\ncredential = { env = "NOT_SET" }\n'
        '[[plugins]]\nuse = "providers"\n[[plugins]]\nuse = "log_jsonl"\n'
        '[[plugins]]\nuse = "tests.cli.test_providers:Own"\n'
    )
    table = rows(run("providers"))
    assert table["groq"][-2] == "providers*"
    assert table["openai"][-2] == "openai"
    assert table["own"][1:8] == [
        *("Our own", "native", "-", "-", "-", "-"),
        "tests.cli.test_providers:Own*",
    ]
    told = run("providers", "groq").output
    assert 'use = "providers"  # listed' in told


def test_a_configuration_that_is_named_must_be_there(folder: Path) -> None:
    result = run("providers", "--config", "none.toml")
    assert result.exit_code == 1
    assert "none.toml" in result.output


def test_a_plugin_that_cannot_be_loaded_is_told_of(folder: Path) -> None:
    (folder / "outgate.toml").write_text('[[plugins]]\nuse = "provider"\n')
    result = run("providers")
    assert result.exit_code == 1
    assert "plugin 'provider' is not installed. Did you mean 'providers'?" in result.output


def test_json_has_all_that_is_known(folder: Path) -> None:
    data = {one["name"]: one for one in json.loads(run("providers", "--json").output)}
    assert set(data) == set(NAMES)
    azure = json.loads(run("providers", "azure-openai-deployments", "--json").output)
    assert azure == data["azure-openai-deployments"]
    assert azure["credential"] == {
        "header": "api-key",
        "prefix": "",
        "variable": "AZURE_OPENAI_API_KEY",
    }
    assert azure["settings"] == {"resource": None, "api_version": "2024-10-21"}
    assert (azure["plugin"], azure["listed"], azure["completions"]) == (
        "providers",
        False,
        "native",
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_all_of_it_with_an_upstream_that_works(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run("providers", name).output
    provider = PROVIDED[name].provider
    for text in (*provider.quirks, *provider.documentation, *provider.paths.values()):
        assert text in told
    written = told[told.index("\n[upstreams.") :]
    if provider.credential_variable:
        monkeypatch.setenv(provider.credential_variable, "sk-0123456789")
    rest = f'[access]\nanonymous = "guest"\n[[routes]]\nupstreams = ["{name}"]\n'
    _, parts = assemble(parse(tomllib.loads(written + rest)))
    assert parts.upstreams[name].provider == name


def test_a_misspelt_name_gets_the_nearest(folder: Path) -> None:
    for words in (("providers", "mistrel"), ("init", "--provider", "mistrel")):
        result = run(*words)
        assert result.exit_code == 1
        assert "no provider 'mistrel'. Did you mean 'mistral'?" in result.output


@pytest.mark.parametrize("name", NAMES)
def test_init_writes_what_check_accepts_for_every_provider(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("init", "--provider", name)
    assert result.exit_code == 0, result.output
    provider = PROVIDED[name].provider
    if provider.credential_variable:
        assert f"export {provider.credential_variable}=…" in result.output
        monkeypatch.setenv(provider.credential_variable, "sk-0123456789")
    for setting in open_settings(provider):
        assert f"# write your {setting} into outgate.toml" in result.output
    checked = run("check")
    assert (checked.exit_code, "ok, digest" in checked.output) == (0, True), checked.output
