"""Fills the places that a provider leaves open, ``{name}``, with what the operator says in ``settings``."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from msgspec import structs

from proxy.errors import ConfigError, nearest
from proxy.frozen import FrozenDict
from proxy.model import Provider

#: In paths: the model of a call, and the one that ``GET /v1/models/{id}`` names.
OF_THE_CALL: Final = frozenset({"id", "model"})

_PLACE: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_BRACE: Final = re.compile(r"[{}]")
_IN_ADDRESS: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._~:@-]*")


def places(text: str) -> list[str]:
    """The names that stand in braces; raises ``ValueError`` for a brace that makes no name."""
    if _BRACE.search(_PLACE.sub("", text)):
        raise ValueError("'{' and '}' only stand around a name of small letters, digits and _")
    return _PLACE.findall(text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """``text`` with every place filled that ``values`` knows, in one pass."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), text)


def spoken(provider: Provider, settings: Mapping[str, str]) -> Provider:
    """``provider`` as one upstream needs it: paths and headers are filled, but for what the call says."""
    return structs.replace(
        provider,
        paths=FrozenDict((name, fill(path, settings)) for name, path in provider.paths.items()),
        headers=FrozenDict(
            (name.lower(), fill(value, settings)) for name, value in provider.headers.items()
        ),
        credential_header=provider.credential_header.lower(),
        fill_in=provider.fill_in and fill(provider.fill_in, settings),
    )


def settled(
    provider: Provider, written: Mapping[str, str], base_url: str, where: str
) -> Mapping[str, str]:
    """Every setting of an upstream, the provider's defaults included.

    Raises ``ConfigError`` for settings that are missing or not known, that nothing would use, or that cannot
    stand where they would.
    """
    addresses = [base_url, *provider.paths.values(), provider.fill_in or ""]
    in_addresses = _used(addresses, f"{where}.base_url")
    used = in_addresses | _used(provider.headers.values(), where)
    _check_known(provider, written, used, where)
    values = {
        name: value
        for name in provider.settings
        if (value := written.get(name, provider.settings[name])) is not None
    }
    if missing := sorted(used - values.keys()):
        told = ", ".join(f'{name} = "…"' for name in missing)
        raise ConfigError(
            f"{where}.settings: the provider {provider.name!r} needs {' and '.join(missing)}."
            f" Write settings = {{ {told} }}"
        )
    for name in used:
        check = _check_part if name in in_addresses else _check_header
        check(values[name], f"{where}.settings.{name}")
    return FrozenDict(values)


def _used(texts: Iterable[str], where: str) -> set[str]:
    try:
        return {name for text in texts for name in places(text)} - OF_THE_CALL
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_known(
    provider: Provider, written: Collection[str], used: Collection[str], where: str
) -> None:
    known = ", ".join(provider.settings) or "none"
    for name in written:
        if name not in provider.settings:
            raise ConfigError(
                f"{where}.settings: the provider {provider.name!r} has no setting {name!r}."
                f"{nearest(name, provider.settings)} It has: {known}"
            )
        if name not in used and provider.sign is None:
            raise ConfigError(
                f"{where}.settings: {name} does nothing, because base_url has no {{{name}}}: remove one of them"
            )
    for name in used:
        if name not in provider.settings:
            raise ConfigError(
                f"{where}.base_url: the provider {provider.name!r} has no setting {name!r} to fill {{{name}}} with."
                f"{nearest(name, provider.settings)} It has: {known}"
            )


# In neither message stands the value: somebody may have written a key where none belongs.


def _check_part(value: str, where: str) -> None:
    if not _IN_ADDRESS.fullmatch(value):
        raise ConfigError(
            f"{where}: it becomes one part of an address, so write letters, digits and . _ ~ : @ - only"
        )


def _check_header(value: str, where: str) -> None:
    if not (value and value.isascii() and value.isprintable()):
        raise ConfigError(f"{where}: it is sent in a header, so write printable ASCII")


def unfilled(provider: Provider) -> Iterator[str]:
    """What is wrong with the places of a provider, in words; nothing where all can be filled."""
    texts = [
        ("base_url", provider.base_url or "", frozenset()),
        ("fill_in", provider.fill_in or "", frozenset({"model"})),
        *((f"headers {name!r}", text, frozenset()) for name, text in provider.headers.items()),
        *((f"paths {name!r}", text, OF_THE_CALL) for name, text in provider.paths.items()),
    ]
    for what, text, more in texts:
        try:
            unknown = set(places(text)) - more - provider.settings.keys()
        except ValueError as error:
            yield f"{what}: {error}"
        else:
            for name in sorted(unknown):
                yield f"{what}: {{{name}}} is none of its settings"
