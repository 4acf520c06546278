"""The application is made only from a configuration whose parts fit each other."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from msgspec import Struct

from proxy import Reply, hookimpl
from proxy.app import announcements, app_from_environment, assemble, create_app
from proxy.config import Loaded, parse
from proxy.errors import ConfigError
from tests.gateway import document


class Stamp(Struct, frozen=True):
    """Rewrites every reply."""

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Reply:
        return reply.with_body(stamped=True)


def settings(**sections: Any) -> dict[str, Any]:
    return document("http://127.0.0.1:9", "unused", **sections)


def loaded(**sections: Any) -> Loaded:
    return parse(settings(**sections))


def refusal(value: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        create_app(parse(value))
    return str(caught.value)


def test_the_application_never_redirects_a_caller() -> None:
    app = create_app(loaded())
    client = app.test_client()
    for path in ("/v1/models/", "/v1//models", "/v1/completions/"):
        assert client.get(path).status_code == 404
    ready: Any = client.get("/readyz").json
    assert ready["digest"] == app.extensions["outgate"].parts.digest


def test_what_an_operator_should_know_is_in_the_start_up_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "outgate"):
        create_app(
            loaded(
                plugins=[
                    {"use": "models", "options": {"default": ["*"]}},
                    {"use": "tests.test_app:Stamp"},
                    {"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{1,9}"}}},
                ],
                access={"anonymous": "guest"},
                policy={"response": {"ticket": "redact"}},
            )
        )
    buffered = "rewrites responses: streams it concerns are buffered"
    assert f"plugin tests.test_app:Stamp {buffered}" in caplog.text
    assert f"plugin models {buffered}" not in caplog.text  # it rewrites only what never streams
    assert "access.anonymous: calls without a key are served as 'guest'" in caplog.text
    assert "chain and policy " in caplog.text


def test_a_plain_configuration_announces_its_digest_only() -> None:
    _, parts = assemble(loaded())
    assert announcements(parts) == [f"chain and policy {parts.digest[:16]}, 1 upstreams"]


def test_the_digest_follows_the_order_of_the_plugins() -> None:
    one, two = ({"use": "tests.test_registry:Guard", "name": name} for name in "ab")
    digests = {
        assemble(loaded(plugins=plugins))[1].digest for plugins in ([one, two], [two, one], [one])
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plugins": [{"use": "openai_compatible"}]}, "no plugin says who calls"),
        ({"upstreams": {}, "routes": []}, "no upstream. Add [upstreams.NAME]"),
        ({"routes": []}, "no route, so no call would reach an upstream. Add [[routes]]"),
        (
            {"policy": {"request": {"tikcet": "deny"}}},
            "policy.request.tikcet: no loaded plugin detects 'tikcet'. Did you mean 'ticket'?",
        ),
        (
            {"policy": {"response": {"other": "deny", "*": "deny"}}},
            "policy.response.other: no loaded plugin detects 'other'. Detected: ticket",
        ),
    ],
)
def test_parts_that_do_not_fit_stop_the_start(change: dict[str, Any], words: str) -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "T-[0-9]{1,9}"}}}
    message = refusal({**settings(plugins=[guard]), **change})
    assert words in message
    assert message.startswith("outgate.toml: ")


def test_a_rule_where_nothing_is_detected_stops_the_start() -> None:
    message = refusal(settings(policy={"request": {"x": "deny"}}))
    assert "Detected: nothing, no plugin has detectors" in message


def test_a_misspelt_kind_among_a_thousand_is_answered_with_those_that_read_alike() -> None:
    message = refusal(
        settings(plugins=[{"use": "secrets"}], policy={"request": {"githbu": "deny"}})
    )
    assert re.search(
        r"[0-9]{3} kinds and groups are detected: outgate docs bundled-plugins", message
    )
    assert "github-token" in message
    assert len(message) < 1000


def test_an_unknown_provider_is_answered_with_the_nearest_and_the_remedy() -> None:
    message = refusal(settings(upstream={"provider": "openai_compatable"}))
    assert "upstreams.main.provider: no loaded plugin provides 'openai_compatable'." in message
    assert "Did you mean 'openai_compatible'? Provided: openai_compatible." in message
    assert "`outgate providers openai_compatable` says which plugin brings it." in message


def test_a_provider_without_an_address_needs_one_and_openai_brings_its_own() -> None:
    value = settings(plugins=[{"use": "openai"}])
    del value["upstreams"]["main"]["base_url"]
    assert "upstreams.main.base_url is missing: write the address" in refusal(value)
    value["upstreams"]["main"]["provider"] = "openai"
    _, parts = assemble(parse(value))
    assert parts.upstreams["main"].base_url == "https://api.openai.com/v1"


def test_an_address_that_cannot_be_used_stops_the_start() -> None:
    assert "main" in refusal(settings(upstream={"base_url": "http://u:p@127.0.0.1/v1"}))


def test_the_environment_names_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "access = { anonymous = 'a' }\n[upstreams.m]\nprovider = 'openai'\n"
        "[[routes]]\nupstreams = ['m']\n[[plugins]]\nuse = 'openai'\n"
    )
    monkeypatch.setenv("OUTGATE_CONFIG", str(path))
    assert isinstance(app_from_environment(), Flask)


@pytest.mark.parametrize("name", ["", "none.toml"])
def test_a_wrong_configuration_ends_the_process_with_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTGATE_CONFIG", name)
    with pytest.raises(SystemExit) as caught:
        app_from_environment()
    assert caught.value.code == 4
    missing = name or "outgate.toml"
    assert capsys.readouterr().err.startswith(
        f"outgate: {missing}: No such file or directory. Name a readable file with --config"
    )


@pytest.mark.parametrize("field", ["pass_headers", "reply_headers"])
@pytest.mark.parametrize("name", ["Content-Length", "set-cookie", "Authorization", "x-api-key"])
def test_headers_of_one_connection_or_of_a_credential_are_never_passed(
    field: str, name: str
) -> None:
    value = settings()
    next(iter(value["upstreams"].values()))[field] = [name]
    assert f"{field}: {name!r} is not passed on" in refusal(value)


def test_a_header_name_with_a_blank_is_no_header_name() -> None:
    value = settings()
    next(iter(value["upstreams"].values()))["pass_headers"] = ["x y"]
    assert "pass_headers: 'x y' is not the name of a header" in refusal(value)
