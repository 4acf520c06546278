"""The queries of a conditional config: what they may ask of a call, and whether it is so."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from plugins.portkey.keys import Refused, nearest
from proxy import ConfigError, linear

#: What is asked about: ``metadata``, ``params`` and ``url``, each with its values by name.
Facts: TypeAlias = Mapping[str, Mapping[str, Any]]
Test: TypeAlias = Callable[[Any], bool]

_ABOUT: Final = ("metadata", "params", "url")
_ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "$gt": gt, "$gte": ge, "$lt": lt, "$lte": le,
}  # fmt: skip
_OPERATORS: Final = (*_ORDERS, "$eq", "$in", "$length", "$ne", "$nin", "$regex")
_NUMBER: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\Z")
_DEEPEST: Final = 8
_MOST_VALUES: Final = 256
_LONGEST_PATTERN: Final = 128
#: In longer texts nothing is found.
_LONGEST_SEARCHED: Final = 65_536
_MISSING: Final = object()


def asks(query: Any, place: str, depth: int = 0) -> Test:
    """Whether ``Facts`` are as ``query`` says; raises ``Refused`` for one that cannot be asked."""
    if not isinstance(query, Mapping) or not query:
        raise Refused(f'{place} asks nothing: write an object like {{"metadata.plan": "paid"}}.')
    if depth > _DEEPEST:
        raise Refused(f"{place} lies deeper than {_DEEPEST} levels: write it flatter.")
    tests = [_member(key, wanted, f"{place}[{key[:64]!r}]", depth) for key, wanted in query.items()]
    return partial(_all, tests)


def _member(key: str, wanted: Any, place: str, depth: int) -> Test:
    if key in ("$and", "$or"):
        if not isinstance(wanted, list) or not wanted:
            raise Refused(f"{place} is no list of queries: write one, with at least one query.")
        tests = [asks(item, f"{place}[{at}]", depth + 1) for at, item in enumerate(wanted)]
        return partial(_all if key == "$and" else _any, tests)
    about, _, name = key.partition(".")
    if about not in _ABOUT or not name or (about == "url" and name != "pathname"):
        raise Refused(
            f"{place} cannot be asked about: write metadata.NAME, params.NAME, url.pathname, $and or $or."
        )
    asked = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
    tests = [_compared(operator, value, place) for operator, value in asked.items()]
    if not tests:
        raise Refused(f'{place} compares nothing: write a value, or an object like {{"$ne": "x"}}.')
    return partial(_about, about, name, tests)


def _about(about: str, name: str, tests: list[Test], facts: Facts) -> bool:
    return _all(tests, facts.get(about, {}).get(name, _MISSING))


def _all(tests: list[Test], value: Any) -> bool:
    return all(test(value) for test in tests)


def _any(tests: list[Test], value: Any) -> bool:
    return any(test(value) for test in tests)


def _compared(operator: str, wanted: Any, place: str) -> Test:
    if operator in ("$eq", "$ne"):
        return partial(_one_of, [_scalar(wanted, place)], operator == "$eq")
    if operator in ("$in", "$nin"):
        if not isinstance(wanted, list) or len(wanted) > _MOST_VALUES:
            raise Refused(f"{place}: {operator} takes a list of up to {_MOST_VALUES} values.")
        return partial(_one_of, [_scalar(item, place) for item in wanted], operator == "$in")
    if operator in _ORDERS:
        limit = _number(wanted)
        if limit is None:
            raise Refused(f"{place}: {operator} takes a number.")
        return partial(_ordered, _ORDERS[operator], limit)
    if operator == "$regex":
        return partial(_found, _pattern(wanted, place))
    if operator == "$length":
        tests = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
        return partial(_long, [_compared(name, value, place) for name, value in tests.items()])
    raise Refused(
        f"{place}: {operator[:64]!r} is no operator.{nearest(operator, _OPERATORS)} There are:"
        f" {', '.join(sorted(_OPERATORS))}."
    )


def _scalar(value: Any, place: str) -> Any:
    if isinstance(value, list | Mapping):
        raise Refused(f"{place} is compared with a list or an object: write a text or a number.")
    return value


def _pattern(wanted: Any, place: str) -> re.Pattern[str]:
    if not isinstance(wanted, str) or len(wanted) > _LONGEST_PATTERN:
        raise Refused(f"{place}: $regex takes a pattern of up to {_LONGEST_PATTERN} characters.")
    try:
        return linear(wanted)
    except ConfigError as error:
        raise Refused(f"{place}: {error}.") from None


def _one_of(wanted: list[Any], expected: bool, value: Any) -> bool:
    return any(_same(value, item) for item in wanted) is expected


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: true is no number, and no text is one."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _ordered(order: Callable[[float, float], bool], limit: float, value: Any) -> bool:
    number = _number(value)
    return number is not None and order(number, limit)


def _number(value: Any) -> float | None:
    """A number, or a text that is one: metadata holds nothing else."""
    if isinstance(value, str):
        found = _NUMBER.match(value)
        return float(found[1]) if found else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _found(pattern: re.Pattern[str], value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= _LONGEST_SEARCHED
        and pattern.search(value) is not None
    )


def _long(tests: list[Test], value: Any) -> bool:
    return isinstance(value, list) and _all(tests, len(value))
