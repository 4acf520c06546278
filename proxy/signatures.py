"""Checks one hook implementation against its specification, while there is still time to say so."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from proxy import hookspecs
from proxy.errors import ConfigError, nearest

#: What ``@hookimpl`` leaves on a function.
MARK: Final = f"{hookspecs.PROJECT}_impl"
HOOKS: Final = tuple(
    name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")
)
_ORDERING: Final = ("wrapper", "hookwrapper", "tryfirst", "trylast")
_YIELDING: Final = frozenset({"detectors", "providers"})


def hook_of(name: str, function: Callable[..., Any]) -> str:
    """The hook that ``function``, found under ``name``, implements."""
    options: dict[str, Any] = getattr(function, MARK)
    return options.get("specname") or name


def check_hook(plugin: str, name: str, function: Callable[..., Any]) -> None:
    """Refuse what pluggy would pass over or call wrongly; raises ``ConfigError``."""
    where = f"plugin {plugin!r}: {name}"
    hook = hook_of(name, function)
    if hook not in HOOKS:
        raise ConfigError(
            f"{where}: there is no such hook.{nearest(hook, HOOKS)} Hooks: {', '.join(HOOKS)}"
        )
    for flag in _ORDERING:
        if getattr(function, MARK).get(flag):
            raise ConfigError(
                f"{where}: {flag} is not taken: the order of [[plugins]] is the order of the calls"
            )
    _check_kind(where, hook, function)
    offered = tuple(inspect.signature(getattr(hookspecs, hook)).parameters)
    for parameter in _parameters(where, function, offered):
        _check_parameter(where, hook, parameter, offered)


def _check_kind(where: str, hook: str, function: Callable[..., Any]) -> None:
    if not inspect.isroutine(function):
        raise ConfigError(f"{where}: write a function or a method, not a {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{where}: hooks are called without await: write def, not async def")
    if inspect.isgeneratorfunction(function) and hook not in _YIELDING:
        raise ConfigError(f"{where}: write return, not yield: this hook gives one value")


def _parameters(
    where: str, function: Callable[..., Any], offered: tuple[str, ...]
) -> list[inspect.Parameter]:
    first = next(iter(inspect.signature(getattr(function, "__func__", function)).parameters), "")
    if inspect.ismethod(function) and first in offered:
        raise ConfigError(f"{where}: self is missing before {first}")
    return list(inspect.signature(function).parameters.values())


def _check_parameter(
    where: str, hook: str, parameter: inspect.Parameter, offered: tuple[str, ...]
) -> None:
    if parameter.default is not parameter.empty:
        raise ConfigError(f"{where}: the argument {parameter.name!r} has a default; remove it")
    if parameter.name not in offered:
        raise ConfigError(
            f"{where}: no argument {parameter.name!r}.{nearest(parameter.name, offered)}"
            f" {hook} offers: {', '.join(offered) or 'none'}"
        )
    if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
        raise ConfigError(f"{where}: write the argument {parameter.name!r} without * and /")
