"""What kinds of upstream there are, which plugin brings each, and how one is written down."""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from proxy.bridge.crossing import must_cross
from proxy.config import PluginEntry, read
from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.model import Limits, Provider
from proxy.origins import find
from proxy.registry import Registry

#: Bundled plugins that bring providers. No other plugin is loaded unless a configuration lists it.
BUNDLED: Final = ("openai", "openai_compatible", "providers")
_HOOK: Final = "providers"


class Provided(Struct, frozen=True):
    """A provider, the plugin that brings it, and whether the configuration lists that."""

    provider: Provider
    plugin: str
    listed: bool = False

    @property
    def completions(self) -> str:
        """How a completion goes there; empty if it cannot."""
        provider = self.provider
        if must_cross(provider.bridge, provider.paths, "completions"):
            way = "bridge"
        else:
            way = "native" if "completions" in provider.paths else ""
        return " + ".join(filter(None, (way, "fill-in" if provider.fill_in else "")))


def provided(path: str | None = None) -> dict[str, Provided]:
    """All providers by their names: those of the configuration at ``path``, then the bundled ones.

    Of the configuration only ``[[plugins]]`` is read, so no key must be there. Raises ``ConfigError``.
    """
    found: dict[str, Provided] = {}
    if path is not None:
        entries = read(path).get("plugins", [])
        for entry in convert(entries, tuple[PluginEntry, ...], where=f"{path}: plugins"):
            if hasattr(find(entry)[0], _HOOK):
                found |= {known.provider.name: known for known in _brought(entry, listed=True)}
    for use in BUNDLED:
        for known in _brought(PluginEntry(use=use)):
            found.setdefault(known.provider.name, known)
    return found


def one(name: str, path: str | None = None) -> Provided:
    """The provider of that name; raises ``ConfigError`` with the nearest one."""
    known = provided(path)
    if name not in known:
        raise ConfigError(
            f"no provider {name!r}.{nearest(name, known)} There are: {', '.join(sorted(known))}."
            " Any other server with OpenAI's routes is openai_compatible."
        )
    return known[name]


def _brought(entry: PluginEntry, *, listed: bool = False) -> Iterator[Provided]:
    registry = Registry([entry], deadline=Limits().hook_seconds)
    for provider in registry.providers.values():
        yield Provided(provider, entry.use, listed)


def upstream_table(provider: Provider, name: str) -> str:
    """``[upstreams.NAME]`` for a provider, as an operator begins with it."""
    return "\n".join([f"[upstreams.{name}]", f'provider = "{provider.name}"', *_keys(provider), ""])


def open_settings(provider: Provider) -> list[str]:
    """The settings that only the operator can know."""
    return [name for name, value in provider.settings.items() if value is None]


def _keys(provider: Provider) -> Iterator[str]:
    local = (provider.base_url or "").startswith("http://")
    if provider.base_url is None:
        yield 'base_url = "https://llm.example.com/v1"  # the address of your server, down to and with /v1'
    elif local:
        yield f'base_url = "{provider.base_url}"  # where your server listens'
    if needed := open_settings(provider):
        # Nothing that works by accident: an address with this in it leads nowhere.
        told = ", ".join(f'{name} = "your-{name.replace("_", "-")}"' for name in needed)
        yield f"settings = {{ {told} }}  # write your own"
    if provider.credential_variable:
        optional = "; leave it out if the server asks for none" if local else ""
        yield (
            f'credential = {{ env = "{provider.credential_variable}" }}'
            f'  # or {{ file = "/run/secrets/…" }}; a key never stands in this file{optional}'
        )
    if local:
        yield "allow_private = true  # it stands in a private network, and speaks plain http"
    elif provider.base_url is None:
        yield "# allow_private = true  # the server stands in a private network, or speaks plain http"


def as_data(known: Provided) -> dict[str, Any]:
    """All that is known of a provider, for programs."""
    provider = known.provider
    return {
        "name": provider.name,
        "title": provider.title,
        "plugin": known.plugin,
        "listed": known.listed,
        "base_url": provider.base_url,
        "completions": known.completions or None,
        "paths": dict(provider.paths),
        "fill_in": provider.fill_in,
        "translated": provider.dialect is not None,
        "signed": provider.sign is not None,
        "credential": {
            "header": provider.credential_header,
            "prefix": provider.credential_prefix,
            "variable": provider.credential_variable or None,
        },
        "headers": dict(provider.headers),
        "settings": dict(provider.settings),
        "extras": list(provider.extras),
        "quirks": list(provider.quirks),
        "documentation": list(provider.documentation),
    }
