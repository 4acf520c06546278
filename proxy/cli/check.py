"""``outgate check``: what a configuration means, before it serves anyone."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
from msgspec import Struct

from proxy.app import announcements, application, assemble
from proxy.cli.options import config_option
from proxy.cli.showing import scope, section, veiled
from proxy.config import Loaded, PluginEntry, UpstreamEntry, load
from proxy.convert import secret_source
from proxy.model import Timeouts, Upstream
from proxy.parts import Parts
from proxy.registry import Registry
from proxy.rehearsal.beside import loaded_beside
from proxy.rehearsal.loading import naming
from proxy.routing.table import shown_upstreams, shown_when
from proxy.rules import DEFAULT, PolicyTable, Rules, rule_for
from proxy.secret import Secret
from proxy.steps import Chain, Step

_WIDEST: Final = 60  # characters of a value, so that a row fits a terminal


_MOST_NAMED: Final = 8


@click.command()
@config_option
def check(path: str) -> None:
    """Load everything that serving would load, and print what it comes to; exit status 0 or 1.

    Nothing is sent and no port is opened.

    \b
    Example:
      outgate check --config outgate.toml
    """
    loaded = load(path)
    registry, parts = assemble(loaded)
    application(registry, parts)
    section("The way of a call, in order", _chain_rows(registry, parts))
    if parts.config.policy.rules:
        section("Policy for some calls, first fit counts for each kind", _rule_rows(parts))
    section("Upstreams", _upstream_rows(loaded, parts.upstreams))
    section("Routes, first fit counts", _route_rows(parts))
    section("Settings and where they come from", _setting_rows(loaded))
    _check_shadow(loaded)
    for line in announcements(parts):
        click.echo(f"note: {line}")
    click.echo(f"\n{path}: ok, digest {parts.digest}")


def _check_shadow(loaded: Loaded) -> None:
    """Check the other file as if it served, and print the way of its calls."""
    other = loaded_beside(loaded)
    if other is not None:
        with naming(other.path):
            registry, parts = assemble(other)
            application(registry, parts)
        title = f"Shadow {other.path}: judged on live calls without effect"
        section(title, _chain_rows(registry, parts))


def _chain_rows(registry: Registry, parts: Parts) -> Iterator[tuple[str, ...]]:
    yield ("hook", "plugin", "when", "mode", "on error")
    entries = {plugin.entry.label: plugin.entry for plugin in registry.plugins}
    for hook in Chain.__struct_fields__:
        for step in getattr(parts.chain, hook):
            only = getattr(step.function, "outgate_only", ())
            yield (
                hook,
                step.plugin,
                scope(entries[step.plugin].when, only),
                "monitor" if step.monitor else "enforce",
                _on_error(step),
            )
        if hook == "guard_request":
            yield from _watch_rows(parts, entries)


def _on_error(step: Step) -> str:
    if step.hook == "log_exchange":
        return "gates calls" if step.required else "logged"
    return "allow" if step.allow_on_error else "deny"


def _watch_rows(parts: Parts, entries: Mapping[str, PluginEntry]) -> Iterator[tuple[str, ...]]:
    """A row a kind, or one for all kinds of a plugin that are treated alike when they are many."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for watch in parts.policy.watches:
        asked = rule_for([parts.config.policy.request], watch.detector, DEFAULT["request"])
        answered = rule_for([parts.config.policy.response], watch.detector, DEFAULT["response"])
        mode = "monitor" if watch.monitor else f"request {asked}, response {answered}"
        error = "allow" if watch.allow_on_error else "deny"
        row: tuple[str, ...] = watch.plugin, scope(entries[watch.plugin].when, ()), mode, error
        rows.setdefault(row, []).append(watch.detector.kind)
    for treated, found in rows.items():
        kinds = list(dict.fromkeys(found))
        named = kinds if len(kinds) <= _MOST_NAMED else [f"{len(kinds)} kinds"]
        yield from ((f"detect {name}", *treated) for name in named)


def _rule_rows(parts: Parts) -> Iterator[tuple[str, ...]]:
    yield ("when", "request", "response")
    for scoped in parts.config.policy.rules:
        yield scope(scoped.when, ()), _written(scoped.request), _written(scoped.response)


def _written(rules: Rules) -> str:
    return ", ".join(f"{name} {rule}" for name, rule in rules.items()) or "-"


def _upstream_rows(loaded: Loaded, upstreams: Mapping[str, Upstream]) -> Iterator[tuple[str, ...]]:
    seconds = "timeouts (connect, first byte, idle, total)"
    yield ("name", "provider", "base URL", "from", "credential", seconds)
    for name, upstream in upstreams.items():
        raw = loaded.document["upstreams"][name]
        origin = loaded.path if "base_url" in raw else f"provider {upstream.provider}"
        credential = secret_source(raw["credential"]) if "credential" in raw else "none"
        if upstream.pass_caller_credential:
            credential += ", or the caller's own"
        limits = [f"{getattr(upstream.timeouts, field):g}" for field in Timeouts.__struct_fields__]
        timeouts = " ".join(limits) + " s"
        yield (name, upstream.provider, upstream.base_url, origin, credential, timeouts)


def _route_rows(parts: Parts) -> Iterator[tuple[str, ...]]:
    yield ("models", "endpoints", "when", "strategy", "upstreams")
    for route in parts.config.routes:
        names = " ".join(route.models), " ".join(route.endpoints)
        yield *names, shown_when(route), route.strategy, shown_upstreams(route)


def _setting_rows(loaded: Loaded) -> Iterator[tuple[str, ...]]:
    yield ("setting", "value", "from")
    for table in ("limits", "access", "parameters", "policy"):
        yield from _settings(
            getattr(loaded.config, table), loaded.document.get(table, {}), table, loaded.path
        )
    for table in ("audit", "shadow"):
        if (found := getattr(loaded.config, table)) is not None:
            yield from _settings(found, loaded.document[table], table, loaded.path)
    for name, entry in loaded.config.upstreams.items():
        yield from _settings(
            entry, loaded.document["upstreams"][name], f"upstreams.{name}", loaded.path
        )
    for number, plugin in enumerate(loaded.config.plugins):
        for key, value in plugin.options.items():
            shown = veiled(key, value)
            yield f"plugins[{number}].options.{key}", _shown(shown), loaded.path


def _settings(value: Any, raw: Any, path: str, source: str) -> Iterator[tuple[str, ...]]:
    for field in value.__struct_fields__:
        item = getattr(value, field)
        given = raw.get(field) if isinstance(raw, dict) else None
        if isinstance(value, PolicyTable) and field == "rules":
            continue  # they have a table of their own
        if isinstance(item, Struct) and not isinstance(item, UpstreamEntry):
            yield from _settings(item, given or {}, f"{path}.{field}", source)
        else:
            origin = _origin(item, given, source)
            yield f"{path}.{field}", _shown(item), origin


def _origin(item: Any, given: Any, source: str) -> str:
    if given is None:
        return "default"
    return secret_source(given) if isinstance(item, Secret) else source


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = " ".join(map(str, value)) if isinstance(value, tuple) and value else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "…"
