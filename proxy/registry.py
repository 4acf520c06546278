"""Loads the plugins the operator listed, checks every one of them, and puts their hooks in order."""

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec
import pluggy

from proxy import hookspecs
from proxy.config import PluginEntry
from proxy.convert import NOTHING, Given, convert
from proxy.detect.detector import Detector
from proxy.errors import ConfigError
from proxy.model import Provider
from proxy.offers import faults_of
from proxy.origins import find, told
from proxy.policy import Watch
from proxy.scopes import When, scope_of
from proxy.signatures import HOOKS, MARK, check_hook, hook_of
from proxy.steps import Chain, PluginFault, Scope, Step

_PER_CALL: Final = Chain.__struct_fields__
_AT_START: Final = frozenset({"init_app", "providers"})


class Plugin(msgspec.Struct, frozen=True):
    """One loaded plugin: what the operator wrote, what was loaded, and where it came from."""

    entry: PluginEntry
    instance: Any
    origin: str
    version: str
    functions: Mapping[str, Callable[..., Any]]

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks it implements."""
        return tuple(dict.fromkeys(hook_of(name, f) for name, f in self.functions.items()))


class _Bundle:
    """What pluggy is given: exactly the functions that were checked, and no two entries ever equal."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        vars(self).update(functions)


class Registry:
    """Every listed plugin, loaded and checked; raises ``ConfigError`` when one of them will not do."""

    def __init__(
        self,
        entries: Iterable[PluginEntry],
        *,
        deadline: float,
        given: Mapping[type, Given] = NOTHING,
    ) -> None:
        self._deadline = deadline
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.plugins = tuple(_load(entry, given) for entry in entries)
        self._by_label = {plugin.entry.label: plugin for plugin in self.plugins}
        # pluggy calls the last registered first; the operator's order is the order of the file.
        for plugin in reversed(self.plugins):
            self._manager.register(_Bundle(plugin.functions), plugin.entry.label)
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
                arguments=tuple(inspect.signature(impl.function).parameters),
                scope=_scope(entry, impl.function),
                monitor=entry.mode == "monitor",
                allow_on_error=entry.on_error == "allow",
                required=entry.required,
                deadline=entry.deadline or self._deadline,
            )

    def _providers(self) -> dict[str, Provider]:
        found: dict[str, Provider] = {}
        for step in self._steps("providers"):
            for provider in _several(step, Provider):
                _check_provider(step, provider)
                if provider.name in found:
                    raise ConfigError(
                        f"plugin {step.plugin!r}: the provider {provider.name!r} is there already"
                    )
                found[provider.name] = provider
        return found

    def _watches(self) -> Iterator[Watch]:
        for step in self._steps("detectors"):
            for detector in _several(step, Detector):
                _check_detector(step, detector)
                yield Watch(
                    detector,
                    step.plugin,
                    step.scope or Scope(),
                    step.monitor,
                    step.allow_on_error,
                    step.deadline,
                )


def _load(entry: PluginEntry, given: Mapping[type, Given]) -> Plugin:
    target, origin, version = find(entry)
    instance = _instance(entry, target, given)
    plugin = Plugin(entry, instance, origin, version, _functions(entry, instance))
    _check_entry(entry, plugin.hooks)
    return plugin


def _instance(entry: PluginEntry, target: Any, given: Mapping[type, Given]) -> Any:
    where = f"plugin {entry.label!r}"
    if isinstance(target, types.ModuleType):
        if entry.options:
            raise ConfigError(
                f"{where}: this plugin takes no options, remove {', '.join(sorted(entry.options))}"
            )
        return target
    if not isinstance(target, type):
        raise ConfigError(f"{where}: {entry.use!r} is neither a module nor a class")
    if not _is_frozen(target):
        raise ConfigError(
            f"{where}: {target.__name__} must be frozen, or calls would share what one of them changes:"
            " write @dataclass(frozen=True) above it"
        )
    try:
        return convert(entry.options, target, where=f"{where}: options", given=given)
    except ConfigError:
        raise
    except PluginFault as error:
        raise ConfigError(f"{where}: options: {told(error)}") from error


def _is_frozen(target: type) -> bool:
    if issubclass(target, msgspec.Struct):
        return target.__struct_config__.frozen
    return dataclasses.is_dataclass(target) and bool(target.__dataclass_params__.frozen)  # type: ignore[attr-defined]


def _functions(entry: PluginEntry, instance: Any) -> dict[str, Callable[..., Any]]:
    """The hook implementations of a plugin by their names, each of them checked."""
    found: dict[str, Callable[..., Any]] = {}
    for name in dir(instance):
        # A property would run here, and is never a hook.
        if isinstance(getattr(type(instance), name, None), property | cached_property):
            continue
        function: Any = getattr(instance, name, None)
        if isinstance(getattr(function, MARK, None), dict):
            check_hook(entry.label, name, function)
            found[name] = function
        elif name in HOOKS and callable(function) and function is not getattr(hookspecs, name):
            raise ConfigError(
                f"plugin {entry.label!r}: {name} is a hook, but @hookimpl is missing above it"
            )
    if not found:
        raise ConfigError(
            f"plugin {entry.label!r} implements no hook: put @hookimpl above one of {', '.join(HOOKS)}"
        )
    return found


def _check_entry(entry: PluginEntry, hooks: Collection[str]) -> None:
    where = f"plugin {entry.label!r}"
    when = entry.when
    if "identify" in hooks and (when.principals or when.groups or when.models):
        raise ConfigError(
            f"{where}: identify runs before the caller and the model are known: when takes endpoints only"
        )
    if "identify" in hooks and (entry.mode == "monitor" or entry.on_error == "allow"):
        raise ConfigError(
            f"{where}: identify cannot be {'monitored' if entry.mode == 'monitor' else 'skipped on error'}"
        )
    if _AT_START.issuperset(hooks) and (when != When() or entry.mode == "monitor"):
        raise ConfigError(
            f"{where}: {' and '.join(hooks)} happen once, for all calls: remove when and mode"
        )
    if entry.required and "log_exchange" not in hooks:
        raise ConfigError(
            f"{where}: required = true is for plugins with log_exchange; remove it (a guardrail always counts)"
        )
    if entry.required and (when.principals or when.groups or when.models):
        raise ConfigError(
            f"{where}: a required log takes endpoints only in when: refused calls, by which it shows that it"
            " works again, have no principal and no model"
        )


def _check_detector(step: Step, detector: Detector) -> None:
    texts = ("kind", "core", "context", "tail", "opens", "closes")
    named = all(isinstance(getattr(detector, name), str) for name in texts) and detector.kind
    if not named or not all(f is None or callable(f) for f in (detector.find, detector.check)):
        raise ConfigError(
            f"plugin {step.plugin!r}: a detector has a kind and patterns, which are texts, or functions;"
            f" not {detector!r}"
        )


def _check_provider(step: Step, provider: Provider) -> None:
    for what in faults_of(provider):
        raise ConfigError(f"plugin {step.plugin!r}: {what}")


def _several(step: Step, wanted: type) -> list[Any]:
    values: list[Any] = _at_start(step, collect=True)
    for value in values:
        if not isinstance(value, wanted):
            raise ConfigError(
                f"plugin {step.plugin!r}: {step.hook} yields {type(value).__name__}, not {wanted.__name__}"
            )
    return values


def _scope(entry: PluginEntry, function: Any) -> Scope | None:
    scope = scope_of(entry.when, getattr(function, "outgate_only", ()))
    return None if scope == Scope() else scope


def _at_start(step: Step, *, collect: bool = False, **offered: Any) -> Any:
    try:
        result = step.run(**offered)
        return list(result) if collect else result
    except ConfigError as error:
        raise ConfigError(f"plugin {step.plugin!r}: {error}") from error
    except PluginFault as error:
        raise ConfigError(f"plugin {step.plugin!r}: {step.hook} failed: {told(error)}") from error
