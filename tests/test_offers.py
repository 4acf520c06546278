"""A provider that could not be spoken to stops the start, and says why to who wrote it."""

from typing import Any

import pytest

from proxy import Bridge, Provider
from proxy.frozen import FrozenDict
from proxy.offers import faults_of
from tests.test_dialect import Plain


def faults(**fields: Any) -> list[str]:
    return list(faults_of(Provider(**{"name": "acme", **fields})))


def test_a_whole_provider_has_no_fault() -> None:
    assert not faults()
    assert not faults(
        base_url="https://{site}.example.com",
        paths=FrozenDict(chat="/{model}/chat", model="/models/{id}"),
        headers=FrozenDict({"x-version": "{version}"}),
        settings=FrozenDict(site=None, version="1"),
        fill_in="/fim",
        bridge=Bridge(split_n=True),
        dialect=Plain(),
        sign=lambda *_: None,
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "a provider has a name and paths"),
        ({"headers": {"a": 1}}, "a provider has a name and paths, all of them texts, and so are"),
        ({"paths": {"chats": "/c"}}, "paths has 'chats', which is none of chat, completions"),
        ({"paths": {"chat": "c"}}, "texts that begin with '/'"),
        ({"fill_in": 3}, "texts that begin with '/'"),
        ({"headers": {"a b": "c"}}, "'a b' is no header that a provider sets"),
        ({"headers": {"Host": "c"}}, "'Host' is no header that a provider sets"),
        ({"credential_header": "te"}, "'te' is no header that a provider sets"),
        ({"settings": {"A-b": "c"}}, "settings are names of small letters, digits and _"),
        ({"settings": {"a": 1}}, "settings are names of small letters, digits and _"),
        ({"bridge": {"always": True}}, "bridge is a Bridge, not dict"),
        ({"dialect": Plain}, "dialect is an object with words, request, reply, error and stream"),
        ({"dialect": object()}, "dialect is an object with words, request"),
        ({"dialect": Plain(), "paths": {"models": "/m"}}, "for chats, but no path for chat"),
        ({"sign": "sigv4"}, "sign is a function of settings and credential, not str"),
        ({"base_url": "https://{x}.example.com"}, "base_url: {x} is none of its settings"),
    ],
)
def test_what_is_wrong_with_a_provider_is_said_in_words(fields: dict[str, Any], words: str) -> None:
    found = faults(**fields)
    assert len(found) == 1
    assert words in found[0]
