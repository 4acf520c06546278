"""Finds what a ``[[plugins]]`` entry names, and who installed it; nothing that is not named is imported."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy import hookspecs
from proxy.config import PluginEntry
from proxy.errors import ConfigError, nearest
from proxy.steps import PluginFault

GROUP: Final = "outgate.plugins"
_OWN_PACKAGES: Final = frozenset({"plugins", "proxy"})


class Offer(NamedTuple):
    """An entry point of a plugin, and the distribution that brought it."""

    point: EntryPoint
    owner: str
    version: str


def offers() -> tuple[Offer, ...]:
    """All that is installed; where two have one name, by the names of their distributions."""
    return _offers(tuple(sys.path))


# What a distribution is called is somewhere in a long text, which takes a while to read.
@cache
def _offers(_path: tuple[str, ...]) -> tuple[Offer, ...]:
    owners = cache(lambda found: (found.name, found.version) if found else ("unknown", "-"))
    known = [Offer(point, *owners(point.dist)) for point in entry_points(group=GROUP)]
    return tuple(sorted(known, key=lambda offer: offer.owner))


def check_owner() -> None:
    """Refuse to run when another distribution also owns ``proxy`` or ``plugins``; raises ``ConfigError``."""
    for package, owner in _other_owners(tuple(sys.path)):
        raise ConfigError(
            f"the package {package!r} is also installed by {owner}, so either may be imported."
            " Install outgate in a virtual environment of its own."
        )


@cache
def _other_owners(_path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    held = [(package, found) for found in distributions() for package in _packages(found)]
    owners = [(package, found.name) for package, found in held]
    return tuple(each for each in owners if each[1] != hookspecs.PROJECT)


def _packages(found: Distribution) -> set[str]:
    """The top-level packages among ``_OWN_PACKAGES`` that a distribution holds.

    ``importlib.metadata.packages_distributions`` says the same, but takes half of the start to do so.
    """
    named = (found.read_text("top_level.txt") or "").split()
    files = "\n" + (found.read_text("RECORD") or "")
    return {name for name in _OWN_PACKAGES if name in named or f"\n{name}/" in files}


def find(entry: PluginEntry) -> tuple[Any, str, str]:
    """The module or class that ``entry.use`` names, where it came from, and its version; raises ``ConfigError``."""
    if ":" in entry.use:
        target = _imported(entry, partial(_by_path, entry.use))
        return target, entry.use, _source_version(target)
    rivals = [offer for offer in offers() if offer.point.name == entry.use]
    if not rivals:
        known = sorted({offer.point.name for offer in offers()})
        raise ConfigError(
            f"plugin {entry.use!r} is not installed.{nearest(entry.use, known)} Installed: {', '.join(known)}."
            ' A plugin of your own can be named "module:Class".'
        )
    if len({rival.owner for rival in rivals}) > 1:
        told_by = ", ".join(f"{rival.owner} (use = {_spelt(rival.point)!r})" for rival in rivals)
        raise ConfigError(f"plugin {entry.use!r} is offered by {told_by}; say which")
    point, owner, version = rivals[-1]
    return _imported(entry, point.load), f"{owner} ({point.value})", version


def _source_version(target: Any) -> str:
    """What stands for the version of a plugin that no distribution brought: a digest of its source file."""
    try:
        source = Path(inspect.getsourcefile(target) or "").read_bytes()
    except (OSError, TypeError):
        return "-"
    return f"sha256:{hashlib.sha256(source).hexdigest()[:16]}"


def _spelt(point: EntryPoint) -> str:
    """An entry point's target as ``use`` takes it."""
    return point.value if ":" in point.value else f"{point.value}:"


def _imported(entry: PluginEntry, load: Callable[[], Any]) -> Any:
    try:
        return load()
    # sys.exit() in a plugin's module must not end the check with the status it likes.
    except PluginFault as error:
        remedy = ""
        if ":" in entry.use and isinstance(error, ImportError | AttributeError):
            remedy = (
                " Write module:Class, with the module on PYTHONPATH or in the working directory."
            )
        raise ConfigError(
            f"plugin {entry.use!r} cannot be imported: {told(error)}{remedy}"
        ) from error


def _by_path(use: str) -> Any:
    module, _, attribute = use.partition(":")
    if "" not in sys.path:
        sys.path.append("")  # a plugin in the working directory, as a newcomer writes it
    target = importlib.import_module(module)
    return getattr(target, attribute) if attribute else target


def told(error: BaseException) -> str:
    """An error of somebody else's code in one sentence."""
    text = str(error).rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
