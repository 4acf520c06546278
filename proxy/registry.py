"""Loads the plugins the operator listed, checks every one of them, and puts their hooks in order."""

import dataclasses
import importlib
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points, packages_distributions
from typing import Any, Final

import msgspec
import pluggy

from proxy import hookspecs
from proxy.chain import Chain, Scope, Step
from proxy.config import PluginEntry, When
from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.model import Provider
from proxy.patterns import Globs
from proxy.policy import Detector, Watch

GROUP: Final = "outgate.plugins"
HOOKS: Final = tuple(
    name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")
)
_PER_CALL: Final = Chain.__struct_fields__


class Plugin(msgspec.Struct, frozen=True):
    """One loaded plugin: what the operator wrote, what was loaded, and where it came from."""

    entry: PluginEntry
    instance: Any
    origin: str
    version: str
    hooks: tuple[str, ...]


class Registry:
    """Every listed plugin, loaded and checked; raises ``ConfigError`` when one of them will not do."""

    def __init__(self, entries: Iterable[PluginEntry], *, deadline: float) -> None:
        self._deadline = deadline
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.plugins = tuple(_load(entry) for entry in entries)
        self._by_label = {plugin.entry.label: plugin for plugin in self.plugins}
        # pluggy calls the last registered first; the operator's order is the order of the file.
        for plugin in reversed(self.plugins):
            self._manager.register(plugin.instance, plugin.entry.label)
        self.chain = Chain(**{hook: tuple(self._steps(hook)) for hook in _PER_CALL})
        self.providers = self._providers()
        self.watches = tuple(self._watches())

    def init_app(self, app: Any) -> None:
        """Let every plugin extend the Flask application."""
        for step in self._steps("init_app"):
            _at_start(step, app=app)

    def _steps(self, hook: str) -> Iterator[Step]:
        caller = getattr(self._manager.hook, hook)
        for impl in reversed(caller.get_hookimpls()):
            entry = self._by_label[impl.plugin_name].entry
            yield Step(
                plugin=entry.label,
                hook=hook,
                function=impl.function,
                arguments=tuple(impl.argnames),
                scope=scope(entry.when, getattr(impl.function, "outgate_only", ())),
                monitor=entry.mode == "monitor",
                allow_on_error=entry.on_error == "allow",
                required=entry.required,
                deadline=entry.deadline or self._deadline,
            )

    def _providers(self) -> dict[str, Provider]:
        found: dict[str, Provider] = {}
        for step in self._steps("providers"):
            for provider in _several(step, Provider):
                if provider.name in found:
                    raise ConfigError(
                        f"plugin {step.plugin!r}: the provider {provider.name!r} is there already"
                    )
                found[provider.name] = provider
        return found

    def _watches(self) -> Iterator[Watch]:
        for step in self._steps("detectors"):
            for detector in _several(step, Detector):
                yield Watch(detector, step.plugin, step.scope, step.monitor, step.allow_on_error)


def scope(when: When, endpoints: Iterable[str] = ()) -> Scope:
    """The compiled form of ``when``; a hook's own ``@only`` narrows the operator's endpoints further."""
    wanted = _globs(when.endpoints)
    if endpoints:
        wanted = Globs(name for name in endpoints if wanted is None or wanted.match(name))
    return Scope(_globs(when.principals), _globs(when.groups), _globs(when.models), wanted)


def check_owner() -> None:
    """Refuse to run when another distribution also owns ``proxy`` or ``plugins``; raises ``ConfigError``."""
    owners = packages_distributions()
    for package in ("proxy", "plugins"):
        strangers = sorted(set(owners.get(package, ())) - {hookspecs.PROJECT})
        if strangers:
            raise ConfigError(
                f"the package {package!r} is also installed by {', '.join(strangers)}, so either may be imported."
                " Install outgate in a virtual environment of its own."
            )


def _globs(patterns: Iterable[str]) -> Globs | None:
    return Globs(patterns) if patterns else None


def _load(entry: PluginEntry) -> Plugin:
    target, origin, version = _find(entry)
    instance = _instance(entry, target)
    hooks = tuple(_checked_hooks(entry, instance))
    _check_entry(entry, hooks)
    return Plugin(entry, instance, origin, version, hooks)


def _find(entry: PluginEntry) -> tuple[Any, str, str]:
    if ":" in entry.use:
        return _imported(entry), entry.use, "-"
    known = {point.name: point for point in sorted(entry_points(group=GROUP), key=_owner)}
    point = known.get(entry.use)
    if point is None:
        raise ConfigError(
            f"plugin {entry.use!r} is not installed.{nearest(entry.use, known)} Installed: {', '.join(sorted(known))}."
            ' A plugin of your own can be named "module:Class".'
        )
    rivals = {_owner(p) for p in entry_points(group=GROUP, name=entry.use)}
    if len(rivals) > 1:
        raise ConfigError(
            f"plugin {entry.use!r} is offered by {', '.join(sorted(rivals))}; say which: use = {point.value!r}"
        )
    try:
        return (
            point.load(),
            f"{_owner(point)} ({point.value})",
            point.dist.version if point.dist else "-",
        )
    except Exception as error:
        raise ConfigError(
            f"plugin {entry.use!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


def _imported(entry: PluginEntry) -> Any:
    module, _, attribute = entry.use.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a plugin beside the configuration, as a newcomer writes it
    try:
        target = importlib.import_module(module)
        return getattr(target, attribute) if attribute else target
    except Exception as error:
        raise ConfigError(
            f"plugin {entry.use!r} cannot be imported: {type(error).__name__}: {error}."
            " Write module:Class, with the module on PYTHONPATH or in the working directory."
        ) from error


def _instance(entry: PluginEntry, target: Any) -> Any:
    where = f"plugin {entry.label!r}: options"
    if isinstance(target, types.ModuleType):
        if entry.options:
            raise ConfigError(
                f"{where}: this plugin takes no options, remove {', '.join(sorted(entry.options))}"
            )
        return target
    if not isinstance(target, type):
        raise ConfigError(f"plugin {entry.label!r}: {entry.use!r} is neither a module nor a class")
    if not _is_frozen(target):
        raise ConfigError(
            f"plugin {entry.label!r}: {target.__name__} must be frozen, or calls would share what one of them changes:"
            " write @dataclass(frozen=True) above it"
        )
    try:
        return convert(entry.options, target, where=where)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error


def _is_frozen(target: type) -> bool:
    if issubclass(target, msgspec.Struct):
        return target.__struct_config__.frozen
    return dataclasses.is_dataclass(target) and bool(target.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _checked_hooks(entry: PluginEntry, instance: Any) -> Iterator[str]:
    found = False
    for name, function in inspect.getmembers(instance, callable):
        options = getattr(function, f"{hookspecs.PROJECT}_impl", None)
        if isinstance(options, dict):
            found = True
            yield _checked_hook(entry, name, function, options)
        elif name in HOOKS and getattr(function, "__module__", "") != hookspecs.__name__:
            raise ConfigError(
                f"plugin {entry.label!r}: {name} is a hook, but @hookimpl is missing above it"
            )
    if not found:
        raise ConfigError(
            f"plugin {entry.label!r} implements no hook: put @hookimpl above one of {', '.join(HOOKS)}"
        )


def _checked_hook(entry: PluginEntry, name: str, function: Any, options: dict[str, Any]) -> str:
    where = f"plugin {entry.label!r}: {name}"
    hook = options.get("specname") or name
    if hook not in HOOKS:
        raise ConfigError(
            f"{where}: there is no such hook.{nearest(hook, HOOKS)} Hooks: {', '.join(HOOKS)}"
        )
    for flag in ("wrapper", "hookwrapper", "tryfirst", "trylast"):
        if options.get(flag):
            raise ConfigError(
                f"{where}: {flag} is not taken: the order of [[plugins]] is the order of the calls"
            )
    offered = set(inspect.signature(getattr(hookspecs, hook)).parameters)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            raise ConfigError(f"{where}: the argument {parameter.name!r} has a default; remove it")
        if parameter.name not in offered:
            raise ConfigError(
                f"{where}: no argument {parameter.name!r}.{nearest(parameter.name, offered)}"
                f" {hook} offers: {', '.join(sorted(offered)) or 'none'}"
            )
    return hook


def _check_entry(entry: PluginEntry, hooks: Iterable[str]) -> None:
    where = f"plugin {entry.label!r}"
    if "identify" in hooks and (entry.when.principals or entry.when.groups or entry.when.models):
        raise ConfigError(
            f"{where}: identify runs before the caller and the model are known: when takes endpoints only"
        )
    if "identify" in hooks and (entry.mode == "monitor" or entry.on_error == "allow"):
        raise ConfigError(
            f"{where}: identify cannot be {'monitored' if entry.mode == 'monitor' else 'skipped on error'}"
        )
    if entry.required and "log_exchange" not in hooks:
        raise ConfigError(
            f"{where}: required = true is for plugins with log_exchange; remove it (a guardrail always counts)"
        )


def _several(step: Step, wanted: type) -> Iterator[Any]:
    for value in _at_start(step) or ():
        if not isinstance(value, wanted):
            raise ConfigError(
                f"plugin {step.plugin!r}: {step.hook} yields {type(value).__name__}, not {wanted.__name__}"
            )
        yield value


def _at_start(step: Step, **offered: Any) -> Any:
    try:
        result = step.run(**offered)
        return list(result) if inspect.isgenerator(result) else result
    except ConfigError as error:
        raise ConfigError(f"plugin {step.plugin!r}: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"plugin {step.plugin!r}: {step.hook} failed: {type(error).__name__}: {error}"
        ) from error
