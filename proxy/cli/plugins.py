"""``outgate plugins``: what a configuration loads, in order, from where, and what each of it does."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from proxy.app import assemble
from proxy.cli.options import config_option
from proxy.cli.output import show_json
from proxy.cli.showing import scope, section, veiled
from proxy.config import load
from proxy.convert import GIVEN
from proxy.origins import offers
from proxy.registry import Plugin, Registry

_PLAIN: Final = (str, int, float, bool, type(None))
_WIDEST: Final = 60


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="For programs: everything, as JSON.")
def plugins(path: str, as_json: bool) -> None:
    """List the plugins a configuration loads, in order, and those that are installed but not listed.

    Without a configuration file it lists what is installed. Secrets are named by their source, never shown.

    \b
    Example:
      outgate plugins --config outgate.toml
      outgate plugins --json
    """
    loaded = list(_rows(assemble(load(path))[0])) if _named_or_there(path) else None
    used = {row["use"] for row in loaded or ()}
    idle = [
        {"name": point.name, "from": point.value, "distribution": owner}
        for point, owner, _ in sorted(offers())
        if point.name not in used
    ]
    if as_json:
        show_json({"loaded": loaded or [], "installed": idle})
        return
    if loaded is not None:
        heads = ("name", "hooks", "when", "mode", "on error", "from", "version")
        section("Loaded, in order", [heads, *map(_told, loaded)])
        section("Options", [("plugin", "option", "value"), *_options_told(loaded)])
    told = [(str(row["name"]), str(row["from"])) for row in idle]
    section("Installed, but not listed, so not loaded", [("name", "from"), *told])


def _named_or_there(path: str) -> bool:
    source = click.get_current_context().get_parameter_source("path")
    return source is not click.core.ParameterSource.DEFAULT or Path(path).exists()


def _rows(registry: Registry) -> Iterator[dict[str, Any]]:
    deadlines = {
        step.plugin: step.deadline
        for hook in registry.chain.__struct_fields__
        for step in getattr(registry.chain, hook)
    }
    for number, plugin in enumerate(registry.plugins, 1):
        entry = plugin.entry
        by_name = ":" not in entry.use
        yield {
            "order": number,
            "name": entry.label,
            "use": entry.use,
            "from": plugin.origin,
            "distribution": plugin.origin.partition(" ")[0] if by_name else None,
            "version": plugin.version,
            "hooks": {hook: _endpoints(plugin, hook) for hook in plugin.hooks},
            "kinds": [w.detector.kind for w in registry.watches if w.plugin == entry.label],
            "when": {k: v for k in entry.when.__struct_fields__ if (v := getattr(entry.when, k))},
            "scope": scope(entry.when, ()),
            "mode": entry.mode,
            "on_error": entry.on_error,
            "required": entry.required,
            "deadline": deadlines.get(entry.label, entry.deadline),
            "options": {k: _plain(veiled(k, v)) for k, v in entry.options.items()},
            "defaults": {k: _plain(veiled(k, v)) for k, v in _defaults(plugin)},
        }


def _endpoints(plugin: Plugin, hook: str) -> list[str] | None:
    """The endpoints that a hook is limited to in its code; None for all."""
    function = plugin.functions.get(hook)
    only = getattr(function, "outgate_only", None)
    return list(only) if only else None


def _defaults(plugin: Plugin) -> Iterator[tuple[str, Any]]:
    """The options that were not written, with the values they have."""
    instance = plugin.instance
    names: list[str] = []
    if isinstance(instance, msgspec.Struct):
        names = list(instance.__struct_fields__)
    elif dataclasses.is_dataclass(instance):
        names = [field.name for field in dataclasses.fields(instance) if field.init]
    for name in names:
        value = getattr(instance, name)
        if name not in plugin.entry.options and type(value) not in GIVEN:
            yield name, value


def _plain(value: Any) -> Any:
    """A value as JSON can say it; a secret, or whatever else it is, by its own description."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, _PLAIN) else repr(value)


def _told(row: dict[str, Any]) -> tuple[str, ...]:
    mode = row["mode"] + (", required" if row["required"] else "")
    hooks = ", ".join(
        hook + (f" ({'|'.join(only)})" if only else "") for hook, only in row["hooks"].items()
    )
    return row["name"], hooks, row["scope"], mode, row["on_error"], row["from"], row["version"]


def _options_told(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        for name, value in row["options"].items():
            yield row["name"], name, _short(value)
        for name, value in row["defaults"].items():
            yield row["name"], name, f"{_short(value)} (default)"


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    if not text or not text.isprintable():
        text = repr(text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
