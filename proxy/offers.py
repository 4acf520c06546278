"""Checks what a plugin offers as a provider, before any upstream is spoken to by it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from proxy.bridge.settings import Bridge
from proxy.dialect import Dialect
from proxy.model import Provider
from proxy.placeholders import unfilled

_SETTING: Final = re.compile(r"[a-z][a-z0-9_]*")
_HEADER: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: What egress says itself of every request.
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
_ENDPOINTS: Final = frozenset({"chat", "completions", "embeddings", "model", "models"})


def faults_of(provider: Provider) -> Iterator[str]:
    """What is wrong with a provider, in words that its author understands."""
    headers = (provider.credential_header, *_items(provider.headers))
    texts = (provider.name, *headers, *_items(provider.paths))
    if not provider.name or not all(isinstance(text, str) for text in texts):
        yield "a provider has a name and paths, all of them texts, and so are its headers"
        return
    for look in (_paths, _headers, _settings, _parts, unfilled):
        for what in look(provider):
            yield f"the provider {provider.name!r}: {what}"
            return


def _paths(provider: Provider) -> Iterator[str]:
    for name in sorted(provider.paths.keys() - _ENDPOINTS):
        yield f"paths has {name!r}, which is none of {', '.join(sorted(_ENDPOINTS))}"
    paths: list[Any] = [
        *provider.paths.values(),
        "/" if provider.fill_in is None else provider.fill_in,
    ]
    if not all(isinstance(path, str) and path.startswith("/") for path in paths):
        yield "its paths and fill_in are texts that begin with '/'"


def _headers(provider: Provider) -> Iterator[str]:
    for name in (*provider.headers, provider.credential_header):
        if not _HEADER.fullmatch(name) or name.lower() in _OURS:
            yield f"{name!r} is no header that a provider sets"


def _settings(provider: Provider) -> Iterator[str]:
    for name, value in provider.settings.items():
        if not _SETTING.fullmatch(str(name)) or not isinstance(value, str | None):
            yield f"settings are names of small letters, digits and _, with a text or None; not {name!r}"


def _parts(provider: Provider) -> Iterator[str]:
    bridge, dialect, sign = cast(
        tuple[Any, ...], (provider.bridge, provider.dialect, provider.sign)
    )
    if not isinstance(bridge, Bridge):
        yield f"bridge is a Bridge, not {type(bridge).__name__}"
    if dialect is not None and (isinstance(dialect, type) or not isinstance(dialect, Dialect)):
        yield "dialect is an object with words, request, reply, error and stream"
    if dialect is not None and "chat" not in provider.paths:
        yield "it has a dialect, which is for chats, but no path for chat"
    if not (sign is None or callable(sign)):
        yield f"sign is a function of settings and credential, not {type(sign).__name__}"


def _items(table: Mapping[Any, Any]) -> Iterator[Any]:
    for item in table.items():
        yield from item
