"""A configuration that is not understood does not start, and says which key, value and way out."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Loaded, load, parse
from proxy.errors import ConfigError

SAMPLE = """
[upstreams.main]
provider = "openai"
base_url = "https://llm.example.com/v1/"
[[routes]]
upstreams = ["main"]
[[plugins]]
use = "openai"
"""


def parsed(text: str) -> Loaded:
    return parse(tomllib.loads(text), "c.toml")


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return str(caught.value)


def test_a_configuration_is_read_into_frozen_values(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(SAMPLE)
    loaded = load(path)
    assert loaded.path == str(path)
    upstream = loaded.config.upstreams["main"].upstream("main", "https://llm.example.com/v1/")
    assert (upstream.name, upstream.base_url) == ("main", "https://llm.example.com/v1")
    assert loaded.config.routes[0].models == ("*",)
    with pytest.raises(AttributeError):
        loaded.config.limits.depth = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limit = 1", "c.toml: unknown key 'limit' = 1. Did you mean 'limits'?"),
        ("[limits]\nbody_byte = 5", "'limits.body_byte' = 5. Did you mean 'body_bytes'?"),
        ("[upstreams.a]\nprovider='x'\nbase_ulr='y'", "upstreams.a: unknown key 'base_ulr' = 'y'."),
        (
            "[upstreams.a]\nprovider='x'\ntimeouts={ conect = 3 }",
            "upstreams.a: unknown key 'timeouts.conect' = 3. Did you mean 'connect'?",
        ),
        (
            "[[plugins]]\nuse='a'\n[[plugins]]\nuse='b'\non_eror='deny'",
            "'plugins[1].on_eror' = 'deny'. Did you mean 'on_error'?",
        ),
        (
            "[[plugins]]\nuse='a'\nwhen={ principal = ['x'] }",
            "'plugins[0].when.principal' = a list. Did you mean 'principals'?",
        ),
        ("[[routes]]\nupstream=['a']", "'routes[0].upstream' = a list. Did you mean 'upstreams'?"),
        ("[policy]\nreply = {}", "unknown key 'policy.reply' = a table."),
        ("[access]\nanonymus = 'x'", "Did you mean 'anonymous'?"),
        ("[parameters]\nunknow = 'allow'", "Did you mean 'unknown'?"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level_with_the_nearest_name(
    text: str, words: str
) -> None:
    message = refusal(text)
    assert words in message
    assert "Known here: " in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nbody_bytes = '5'", "limits.body_bytes = '5': Expected int"),
        ("[limits]\nbody_bytes = true", "limits.body_bytes = True: Expected int"),
        ("[limits]\ndepth = 1.5", "limits.depth = 1.5: Expected int"),
        ("[limits]\ndepth = 0", "limits.depth = 0: write a number above zero"),
        ("[limits]\nhook_seconds = nan", "limits.hook_seconds = nan: write a number above zero"),
        ("[limits]\ncall_seconds = inf", "limits.call_seconds = inf: write a number above zero"),
        ("[limits]\nconcurrent_calls = -1", "limits.concurrent_calls = -1: write a number"),
        ("[[plugins]]\nuse='a'\ndeadline=0", "plugins[0].deadline = 0.0: write a number above"),
        ("[[plugins]]\nuse='a'\ndeadline=nan", "plugins[0].deadline = nan: write a number above"),
        (
            "[upstreams.a]\nprovider='x'\ntimeouts={ total = -1 }",
            "upstreams.a.timeouts.total = -1.0: write a number above zero",
        ),
        (
            "[[plugins]]\nuse='a'\nmode='monitr'",
            "plugins[0].mode = 'monitr': write one of 'enforce', 'monitor'. Did you mean 'monitor'?",
        ),
        (
            "[policy.request]\nticket = 'redakt'",
            "policy.request.ticket = 'redakt': write one of 'allow', 'monitor', 'mask', 'redact', 'deny'.",
        ),
        ("[[plugins]]\nname='a'", "plugins[0]: Object missing required field use"),
        ("[upstreams.a]\nstrict=true", "upstreams.a: Object missing required field provider"),
        ("upstreams = 1", "upstreams = 1: Expected object, got int"),
        ("[plugins]\nuse='a'", "plugins = a table: Expected array, got object"),
        ("[[routes]]\nupstreams=[]", "routes[0].upstreams is empty: name at least one"),
        (
            "[upstreams.a]\nprovider='x'\n[[routes]]\nupstreams=['a']\nmodels=[]",
            "routes[0].models is empty: name at least one, or remove it",
        ),
        (
            "[upstreams.main]\nprovider='x'\n[[routes]]\nupstreams=['mian']",
            "routes[0].upstreams: no upstream 'mian'. Did you mean 'main'? Configured: main",
        ),
        ("[[routes]]\nupstreams=['a']", "Configured: none: add [upstreams.NAME]"),
        (
            "[upstreams.a]\nprovider='x'\n[[routes]]\nupstreams=['a']\nendpoints=['chats']",
            "routes[0].endpoints: 'chats' fits no endpoint. Did you mean 'chat'?",
        ),
        ("[upstreams.'']\nprovider='x'", "an upstream needs a name"),
        ("[[plugins]]\nuse='a'\n[[plugins]]\nuse='a'", "plugins[1]: the name 'a' is taken."),
        (
            "[[plugins]]\nuse='a'\n[[plugins]]\nuse='b'\nname='a'",
            'Give each entry of the same plugin its own name = "…"',
        ),
        (
            "[[plugins]]\nuse='a'\nwhen={ endpoints=['complitions'] }",
            "plugins[0].when.endpoints: 'complitions' fits no endpoint. Did you mean 'completions'?",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_the_way_out(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize("field", ["principals", "groups", "models", "endpoints"])
def test_an_empty_scope_is_refused_because_it_could_mean_nobody_or_everybody(field: str) -> None:
    message = refusal(f"[[plugins]]\nuse='a'\nwhen={{ {field} = [] }}")
    assert f"plugins[0].when.{field} is empty: name at least one, or remove it" in message
    assert "holds an empty text" in refusal(f"[[plugins]]\nuse='a'\nwhen={{ {field} = ['', 'x'] }}")


def test_a_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path)
        return str(caught.value)

    message = refused(tmp_path / "none.toml")
    assert "none.toml: No such file or directory. Name a readable file with --config" in message
    (tmp_path / "bad.toml").write_text("a = ")
    assert "not valid TOML" in refused(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    assert "not valid TOML" in refused(tmp_path / "latin.toml")
    assert "Is a directory" in refused(tmp_path)


def test_the_digest_changes_with_the_text_and_the_versions_but_not_with_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def digest(key: str, **more: Any) -> str:
        monkeypatch.setenv("SOME_KEY", key)
        document = tomllib.loads(SAMPLE) | more
        document["upstreams"]["main"]["credential"] = {"env": "SOME_KEY"}
        return parse(document).digest("1.0")

    assert digest("first-secret") == digest("second-secret")
    assert digest("first-secret") != digest("first-secret", limits={"depth": 3})
    loaded = parsed(SAMPLE)
    assert loaded.digest("1.0") != loaded.digest("1.1")
    assert len(loaded.digest()) == 64
