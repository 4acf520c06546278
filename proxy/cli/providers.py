"""``outgate providers``: the kinds of upstream there are, and all that is known of one."""

from collections.abc import Iterable, Iterator
from typing import Final

import click

from proxy.bridge.crossing import must_cross
from proxy.cli.options import config_option, named_or_there
from proxy.cli.output import show_json, show_table
from proxy.cli.provided import Provided, as_data, one, provided, upstream_table
from proxy.model import Provider

_HEADS: Final = (
    "name", "title", "completions", "chat", "embeddings", "models", "key in", "plugin", "base URL",
)  # fmt: skip
_METHODS: Final = {"models": "GET", "model": "GET"}


@click.command()
@click.argument("name", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def providers(name: str | None, path: str, as_json: bool) -> None:
    """List the kinds of upstream, with their routes; with a NAME, print all that is known of it.

    completions is "native", or "bridge" where they are sent as chats; "fill-in" is a route of its own for a
    suffix. A plugin marked with * is listed in the configuration.

    \b
    Example:
      outgate providers
      outgate providers mistral
    """
    read = path if named_or_there(path) else None
    if name is not None:
        known = one(name, read)
        show_json(as_data(known)) if as_json else click.echo(told(known), nl=False)
        return
    every = list(provided(read).values())
    if as_json:
        show_json([as_data(known) for known in every])
        return
    show_table(_HEADS, (row(known) for known in every))
    click.echo(
        '\nList the plugin to use one: [[plugins]] use = "…". All of one: outgate providers NAME.'
    )


def row(known: Provided) -> tuple[str, ...]:
    """A provider in one line."""
    provider = known.provider
    routes = ("yes" if name in provider.paths else "-" for name in ("chat", "embeddings", "models"))
    return (
        provider.name,
        provider.title or "-",
        known.completions or "-",
        *routes,
        provider.credential_variable or "-",
        known.plugin + ("*" if known.listed else ""),
        provider.base_url or "yours",
    )


def told(known: Provided) -> str:
    """All that is known of a provider, for people."""
    provider = known.provider
    lines = [f"{provider.name}: {provider.title}".rstrip(": "), ""]
    lines += [f"  {name:<12} {value}" for name, value in _facts(known)]
    lines += _listed("Good to know", provider.quirks)
    lines += _listed("By these documents", provider.documentation)
    written = upstream_table(provider, provider.name)
    use = f'[[plugins]]\nuse = "{known.plugin}"' + ("  # listed" if known.listed else "")
    return "\n".join([*lines, "", written, use, ""])


def _facts(known: Provided) -> Iterator[tuple[str, str]]:
    provider = known.provider
    yield "base URL", provider.base_url or "yours to write"
    for endpoint in ("completions", "chat", "embeddings", "models", "model"):
        if route := _route(provider, endpoint):
            yield endpoint, route
    if provider.fill_in:
        yield "fill-in", f"POST {provider.fill_in}, for completions with a suffix"
    yield "credential", _credential(provider)
    for name, value in provider.headers.items():
        yield "header", f"{name}: {value}"
    for name, default in provider.settings.items():
        told = "yours to write" if default is None else f"{default} by default"
        yield "setting", f"{name}: {told}"
    if provider.extras:
        yield "takes also", ", ".join(provider.extras)


def _route(provider: Provider, endpoint: str) -> str:
    path = provider.paths.get(endpoint)
    if must_cross(provider.bridge, provider.paths, endpoint):
        return "by the bridge, as chats" + (f"; its own route is POST {path}" if path else "")
    words = ", in the provider's own words" if endpoint == "chat" and provider.dialect else ""
    return f"{_METHODS.get(endpoint, 'POST')} {path}{words}" if path else ""


def _credential(provider: Provider) -> str:
    if provider.sign is not None:
        return "each request is signed"
    if not provider.credential_variable:
        return "none"
    sent = f"{provider.credential_header}: {provider.credential_prefix}KEY"
    return f"{sent}; its users keep it in {provider.credential_variable}"


def _listed(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"  - {item}" for item in items]
    return ["", title, *lines] if lines else []
