"""What a provider leaves open is filled by the operator's settings, all of it and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import ConfigError, Provider
from proxy.frozen import FrozenDict
from proxy.placeholders import fill, places, settled, spoken, unfilled

AZURE = Provider(
    name="azure",
    base_url="https://{resource}.example.com/openai",
    paths=FrozenDict(chat="/deployments/{model}/chat?api-version={api_version}"),
    headers=FrozenDict({"X-Version": "{api_version}"}),
    settings=FrozenDict(resource=None, api_version="2024-10-21"),
    fill_in="/{api_version}/fim",
)
WHERE = "outgate.toml: upstreams.main"


def refusal(
    written: dict[str, str], provider: Provider = AZURE, base_url: str | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        settled(provider, written, base_url or provider.base_url or "", WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE)
    return message


def test_paths_and_headers_are_filled_and_the_calls_own_places_stay() -> None:
    settings = settled(AZURE, {"resource": "acme"}, AZURE.base_url or "", WHERE)
    assert settings == {"resource": "acme", "api_version": "2024-10-21"}
    filled = spoken(AZURE, settings)
    assert filled.paths == {"chat": "/deployments/{model}/chat?api-version=2024-10-21"}
    assert filled.headers == {"x-version": "2024-10-21"}
    assert filled.fill_in == "/2024-10-21/fim"
    assert fill("https://{resource}.example.com", settings) == "https://acme.example.com"


def test_what_is_written_counts_before_a_default() -> None:
    written = {"resource": "acme", "api_version": "2025-01-01"}
    assert settled(AZURE, written, AZURE.base_url or "", WHERE) == written


def test_a_missing_setting_says_what_to_write() -> None:
    assert "the provider 'azure' needs resource. Write settings = { resource = \"…\" }" in refusal(
        {}
    )


def test_an_unknown_setting_is_answered_with_the_nearest_and_without_its_value() -> None:
    message = refusal({"ressource": "sk-1"})
    assert "has no setting 'ressource'. Did you mean 'resource'? It has: resource, api_v" in message
    assert "sk-1" not in message


def test_an_address_of_ones_own_needs_only_what_it_names() -> None:
    own = "https://llm.example.com/{api_version}"
    assert settled(AZURE, {}, own, WHERE) == {"api_version": "2024-10-21"}
    assert "resource does nothing, because base_url has no {resource}" in refusal(
        {"resource": "acme"}, base_url=own
    )
    assert "has no setting 'region' to fill {region} with" in refusal(
        {}, base_url="https://{region}.example.com"
    )
    assert "upstreams.main.base_url: '{' and '}' only stand around a name" in refusal(
        {}, base_url="https://{A}.example.com"
    )


def test_what_signs_may_use_a_setting_that_no_address_has() -> None:
    provider = Provider(
        name="p", settings=FrozenDict(region=None, profile=""), sign=lambda *_: None
    )
    own = "https://example.com"
    assert settled(provider, {"region": "a"}, own, WHERE) == {"region": "a", "profile": ""}
    assert settled(provider, {}, own, WHERE) == {"profile": ""}


@pytest.mark.parametrize("value", ["", "a/b", "a b", "é", "..", "x?y", "x#y", "x%41", "{resource}"])
def test_a_setting_stays_one_part_of_the_address(value: str) -> None:
    message = refusal({"resource": value})
    assert "settings.resource: it becomes one part of an address" in message
    assert not value or value not in message.split(" and ")[0]


@pytest.mark.parametrize("value", ["", "a\r\nx-other: b", "é"])
def test_a_setting_of_a_header_is_printable(value: str) -> None:
    provider = Provider(
        name="p", headers=FrozenDict(title="{title}"), settings=FrozenDict(title=None)
    )
    assert "settings.title: it is sent in a header, so write printable ASCII" in refusal(
        {"title": value}, provider, "https://example.com"
    )
    assert settled(provider, {"title": "a/b c"}, "https://example.com", WHERE)["title"] == "a/b c"


def test_a_provider_names_no_place_that_nobody_can_fill() -> None:
    assert list(unfilled(AZURE)) == []
    odd = Provider(
        name="p",
        base_url="https://{model}.example.com",
        paths=FrozenDict(chat="/{model}/{id}/{other}", model="/{"),
        headers=FrozenDict(a="{id}"),
        fill_in="/{model}/{id}",
    )
    assert list(unfilled(odd)) == [
        "base_url: {model} is none of its settings",
        "fill_in: {id} is none of its settings",
        "headers 'a': {id} is none of its settings",
        "paths 'chat': {other} is none of its settings",
        "paths 'model': '{' and '}' only stand around a name of small letters, digits and _",
    ]


@given(st.dictionaries(st.sampled_from("abc"), st.text("{}abc", max_size=6)), st.text("{}abcd"))
def test_what_was_filled_in_is_never_filled_again(values: dict[str, str], text: str) -> None:
    pieces = fill(text, {name: f"<{name}>" for name in values})
    expected = "".join(
        values[piece[1]] if piece.startswith("<") else piece for piece in _split(pieces)
    )
    assert fill(text, values) == expected


def _split(text: str) -> list[str]:
    found: list[str] = []
    rest = text
    while "<" in rest:
        before, _, rest = rest.partition("<")
        name, _, rest = rest.partition(">")
        found += [before, f"<{name}>"]
    return [*found, rest]


def test_the_names_of_places_are_read_in_their_order() -> None:
    assert places("/{b}/{a_1}/x") == ["b", "a_1"]
