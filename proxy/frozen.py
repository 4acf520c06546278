"""Dicts and lists that cannot be edited, so that a hook returns a new value instead of changing a shared one."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

_PLAIN = frozenset({str, int, float, bool, type(None)})
_ADVICE = (
    "is frozen: return a new value, e.g. call.with_body(key=value), instead of editing it in place"
)


class FrozenDict(dict[str, Any]):
    """A JSON object that raises ``TypeError`` on every edit; reads and serialises like a dict."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(f"this object {_ADVICE}")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> "FrozenDict":
        return self

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return thaw(self)  # type: ignore[no-any-return]


class FrozenList(list[Any]):
    """A JSON array that raises ``TypeError`` on every edit; reads and serialises like a list."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(f"this array {_ADVICE}")

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[type, tuple[list[Any]]]:
        return FrozenList, (list(self),)

    def __copy__(self) -> "FrozenList":
        return self

    def __deepcopy__(self, memo: object) -> list[Any]:
        return thaw(self)  # type: ignore[no-any-return]


def freeze(value: Any) -> Any:
    """``value`` with every dict and list in it frozen; what is frozen already is taken as it is."""
    kind = type(value)
    # First of all what most values are: to ask whether something is a mapping takes long.
    if kind in _PLAIN or kind is FrozenDict or kind is FrozenList:
        return value
    if kind is dict or isinstance(value, Mapping):
        return FrozenDict(
            {key: item if type(item) in _PLAIN else freeze(item) for key, item in value.items()}
        )
    if isinstance(value, list | tuple):
        return FrozenList(map(freeze, value))
    return value


def thaw(value: Any) -> Any:
    """A deep copy of ``value`` made of plain, editable dicts and lists."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def frozen_pairs(pairs: Iterable[tuple[str, Any]]) -> FrozenDict:
    """A frozen object from decoded JSON members."""
    return FrozenDict((key, freeze(value)) for key, value in pairs)
