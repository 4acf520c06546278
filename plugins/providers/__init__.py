"""Further kinds of upstream, from Anthropic to vLLM; all but those with a dialect are data, in ``table.toml``."""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

from plugins.providers import anthropic
from plugins.providers.sigv4 import Signing
from proxy import Provider, hookimpl

#: Where an endpoint is for those that keep OpenAI's paths; ``routes`` of an entry names such endpoints.
_PATHS: Final = Provider(name="").paths
_KNOWN: Final = {*Provider.__struct_fields__, "routes", "required"} - {"name"}


@hookimpl
def providers() -> Iterator[Provider]:
    """Every entry of the table; ``openai`` and ``openai_compatible`` are plugins of their own and not among them."""
    table = tomllib.loads(files(__package__).joinpath("table.toml").read_text("utf-8"))
    for name, entry in table.items():
        yield _provider(name, entry)
    yield anthropic.provider()


def _provider(name: str, entry: Mapping[str, Any]) -> Provider:
    """An entry as a provider; raises ``ValueError`` for a key that means nothing."""
    if unknown := sorted(entry.keys() - _KNOWN):
        raise ValueError(f"table.toml: {name}: unknown {', '.join(unknown)}")
    routes = {endpoint: _PATHS[endpoint] for endpoint in entry.get("routes", ())}
    fields = {key: value for key, value in entry.items() if key in Provider.__struct_fields__}
    fields["name"] = name
    fields["paths"] = routes | entry.get("paths", {})
    # TOML has no null, which is what a setting without a default is.
    fields["settings"] = dict.fromkeys(entry.get("required", ())) | entry.get("settings", {})
    if "sign" in entry:
        fields["sign"] = Signing(entry["sign"])
    return msgspec.convert(fields, Provider)
