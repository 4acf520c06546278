"""The upstreams of a configuration for a look at the way to them: each read alone, and no secret has to be there."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from proxy.config import PluginEntry, parse
from proxy.convert import convert, secret_source
from proxy.errors import ConfigError, nearest
from proxy.model import Limits, Provider, Upstream
from proxy.origins import find
from proxy.placeholders import fill, settled, spoken
from proxy.registry import Registry
from proxy.secret import Secret


class Way(Struct, frozen=True, kw_only=True):
    """An upstream as far as it can be read.

    Attributes:
        credential: where it comes from; ``missing`` says that it is not there.
        problem: why there is no ``upstream``.
        models: the path of the provider's list of models; ``note`` says why there is none.

    """

    name: str
    credential: str = "none"
    missing: str | None = None
    problem: str | None = None
    upstream: Upstream | None = None
    provider: Provider | None = None
    models: str | None = None
    note: str | None = None


class _Credential(Struct, frozen=True):
    credential: Secret


def chosen(document: Mapping[str, Any], path: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The tables of the upstreams that are named, or of all; raises ``ConfigError``."""
    known = document.get("upstreams")
    if not isinstance(known, dict) or not known:
        raise ConfigError(f"{path}: no upstream. Add [upstreams.NAME] with provider and base_url.")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{path}: no upstream {name!r}.{nearest(name, known)} Configured: {', '.join(sorted(known))}"
            )
    return {name: known[name] for name in dict.fromkeys(names or known)}


def providers_of(
    document: Mapping[str, Any], path: str
) -> tuple[dict[str, Provider], dict[str, str]]:
    """What the listed plugins provide, and why some cannot be loaded; plugins that provide nothing are not made."""
    found: dict[str, Provider] = {}
    broken: dict[str, str] = {}
    entries = document.get("plugins", [])
    for number, raw in enumerate(entries if isinstance(entries, list) else ()):
        try:
            entry = convert(raw, PluginEntry, where=f"{path}: plugins[{number}]")
            if hasattr(find(entry)[0], "providers"):
                found |= Registry([entry], deadline=Limits().hook_seconds).providers
        except ConfigError as error:
            broken[str(raw.get("use") if isinstance(raw, dict) else number)] = str(error)
    return found, broken


def way_of(
    name: str, raw: Any, path: str, providers: Mapping[str, Provider], broken: Mapping[str, str]
) -> Way:
    """One upstream; whatever is wrong with it is in its ``problem``."""
    way, table = _without_credential(name, raw, path)
    try:
        entry = parse({"upstreams": {name: table}}, path).config.upstreams[name]
    except ConfigError as error:
        return replace(way, problem=str(error))
    provider = providers.get(entry.provider)
    base_url = entry.base_url or (provider.base_url if provider else None)
    where = f"{path}: upstreams.{name}"
    # A plugin that could not be loaded may be the one that provides it.
    if base_url is None or (provider is None and not broken):
        return replace(way, problem=_unknown(where, entry.provider, providers, broken))
    settings: Mapping[str, str] = {}
    if provider is not None:
        try:
            settings = settled(provider, entry.settings, base_url, where)
        except ConfigError as error:
            return replace(way, problem=str(error))
        provider = spoken(provider, settings)
    upstream = entry.upstream(name, fill(base_url, settings), settings)
    models, note = _models(entry.provider, provider)
    return replace(way, upstream=upstream, provider=provider, models=models, note=note)


def _without_credential(name: str, raw: Any, path: str) -> tuple[Way, Any]:
    """The table, less a credential that is not there."""
    if not isinstance(raw, dict) or "credential" not in raw:
        return Way(name=name), raw
    source = secret_source(raw["credential"])
    try:
        given = {"credential": raw["credential"]}
        convert(given, _Credential, where=f"{path}: upstreams.{name}")
    except ConfigError as error:
        table = {key: value for key, value in raw.items() if key != "credential"}
        return Way(name=name, credential=source, missing=str(error)), table
    return Way(name=name, credential=source), raw


def _unknown(
    where: str, name: str, providers: Mapping[str, Provider], broken: Mapping[str, str]
) -> str:
    if name in providers:
        return f'{where}.base_url is missing: write the address, e.g. base_url = "https://host/v1"'
    if broken:
        return broken.get(name) or next(iter(broken.values()))
    return (
        f"{where}.provider: no loaded plugin provides {name!r}.{nearest(name, providers)}"
        f" `outgate providers {name}` says which plugin brings it."
    )


def _models(name: str, provider: Provider | None) -> tuple[str | None, str | None]:
    if provider is None:
        return (
            None,
            f"the plugin that provides {name!r} cannot be loaded: no list of models is asked for",
        )
    path = provider.paths.get("models")
    return path, None if path else f"{name!r} has no list of models: none is asked for"
