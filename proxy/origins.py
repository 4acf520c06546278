"""Finds what a ``[[plugins]]`` entry names, and who installed it; nothing that is not named is imported."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any, Final

from proxy import hookspecs
from proxy.config import PluginEntry
from proxy.errors import ConfigError, nearest
from proxy.steps import PluginFault

GROUP: Final = "outgate.plugins"
_OWN_PACKAGES: Final = frozenset({"plugins", "proxy"})


def check_owner() -> None:
    """Refuse to run when another distribution also owns ``proxy`` or ``plugins``; raises ``ConfigError``."""
    for found in distributions():
        if found.name == hookspecs.PROJECT:
            continue
        for package in _OWN_PACKAGES & _packages(found):
            raise ConfigError(
                f"the package {package!r} is also installed by {found.name}, so either may be imported."
                " Install outgate in a virtual environment of its own."
            )


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
    known = {point.name: point for point in sorted(entry_points(group=GROUP), key=_owner)}
    point = known.get(entry.use)
    if point is None:
        raise ConfigError(
            f"plugin {entry.use!r} is not installed.{nearest(entry.use, known)} Installed: {', '.join(sorted(known))}."
            ' A plugin of your own can be named "module:Class".'
        )
    rivals = sorted(entry_points(group=GROUP, name=entry.use), key=_owner)
    if len({_owner(rival) for rival in rivals}) > 1:
        offers = ", ".join(f"{_owner(rival)} (use = {_spelt(rival)!r})" for rival in rivals)
        raise ConfigError(f"plugin {entry.use!r} is offered by {offers}; say which")
    version = point.dist.version if point.dist else "-"
    return _imported(entry, point.load), f"{_owner(point)} ({point.value})", version


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


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


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
