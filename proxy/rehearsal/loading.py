"""A configuration as far as it judges calls: its policy, and those of its plugins that have a say in it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_type_hints

from msgspec import Struct, structs

from proxy.config import Config, Loaded, PluginEntry, parse, read
from proxy.convert import Given, secrets_made_up
from proxy.errors import ConfigError
from proxy.model import Upstream
from proxy.origins import find
from proxy.parts import Parts
from proxy.policy import Policy, kinds_and_groups
from proxy.prices import Prices
from proxy.registry import Registry
from proxy.rules import check_kinds
from proxy.signatures import MARK, hook_of
from proxy.steps import Chain
from proxy.store import Store
from proxy.teams import Teams

#: The hooks that judge a call, without reserving, sending or recording anything.
REHEARSED: Final = ("rewrite_request", "guard_request", "detectors", "rewrite_response")
#: Put before the names of a shadow's plugins, so that the log tells them from those that serve.
SHADOW: Final = "shadow "
_PER_CALL: Final = Chain.__struct_fields__
#: What a rehearsal neither opens nor needs the secrets of.
_LEFT_OUT_TABLES: Final = ("audit", "console", "shadow", "store")


class Candidate(Struct, frozen=True, kw_only=True):
    """A configuration that can judge. ``left_out`` are plugins that would have a say, and are not run.

    Those are the ones that keep state in the store: judging a call twice would change it, or need it.
    """

    path: str
    parts: Parts
    left_out: frozenset[str] = frozenset()
    prefix: str = ""

    def label(self, name: str) -> str:
        """The name that the file has for a plugin."""
        return name.removeprefix(self.prefix)


def candidate(loaded: Loaded, *, prefix: str = "") -> Candidate:
    """The part of a configuration that judges; raises ``ConfigError`` which names the file."""
    with naming(loaded.path):
        return _candidate(loaded, prefix)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Have every ``ConfigError`` of the block name the file: with two of them, one has to be told from the other."""
    try:
        yield
    except ConfigError as error:
        told = str(error)
        raise ConfigError(told if path in told else f"{path}: {told}") from error


def rehearsed(path: str | Path) -> Candidate:
    """The candidate of a file, for a machine that has none of its secrets; raises ``ConfigError``.

    A secret that is not there is made up: nothing is sent anywhere, so none of them is needed.
    """
    document = {name: value for name, value in read(path).items() if name not in _LEFT_OUT_TABLES}
    with secrets_made_up():
        return candidate(parse(document, str(path)))


def _candidate(loaded: Loaded, prefix: str) -> Candidate:
    config = loaded.config
    found = {entry.label: _say(entry) for entry in config.plugins}
    entries = [
        structs.replace(entry, name=f"{prefix}{entry.label}")
        for entry in config.plugins
        if found[entry.label] == "rehearsed"
    ]
    prices = Prices(config.prices, where=f"{loaded.path}: prices")
    given: dict[type, Given] = {Prices: lambda: prices}
    registry = Registry(entries, deadline=config.limits.hook_seconds, given=given)
    check_kinds(config.policy, kinds_and_groups(registry.watches), loaded.path)
    versions = (f"{plugin.entry.label} {plugin.version}" for plugin in registry.plugins)
    parts = Parts(
        config=config,
        digest=loaded.digest(version("outgate"), *versions),
        chain=_harmless(registry.chain),
        providers={},
        upstreams=dict(_upstreams(config)),
        policy=Policy(config.policy, registry.watches),
        teams=Teams(config.teams, where=loaded.path),
        prices=prices,
    )
    left_out = frozenset(label for label, say in found.items() if say == "left out")
    return Candidate(path=loaded.path, parts=parts, left_out=left_out, prefix=prefix)


def _say(entry: PluginEntry) -> str:
    """Whether a plugin has a say in a rehearsal, would have one, or has none at all."""
    target, _, _ = find(entry)
    if not set(_hooks(target)) & set(REHEARSED):
        # What is no plugin is for the registry to complain about.
        return "none" if list(_hooks(target)) else "rehearsed"
    return "left out" if _keeps_state(target) else "rehearsed"


def _hooks(target: Any) -> Iterator[str]:
    for name in dir(target):
        function: Any = getattr(target, name, None)
        if isinstance(getattr(function, MARK, None), dict):
            yield hook_of(name, function)


def _keeps_state(target: Any) -> bool:
    if isinstance(target, ModuleType) or not is_dataclass(target):
        return False
    hints = get_type_hints(target)
    return any(hints[field.name] is Store for field in fields(target) if field.init)


def _harmless(chain: Chain) -> Chain:
    """The chain without what reserves, chooses, records, or looks at credentials."""
    return Chain(**{hook: getattr(chain, hook) for hook in REHEARSED if hook in _PER_CALL})


def _upstreams(config: Config) -> Iterable[tuple[str, Upstream]]:
    """As far as they matter to a request: which of its headers they would get."""
    for name, entry in config.upstreams.items():
        yield name, entry.upstream(name, entry.base_url or "https://rehearsal.invalid")
