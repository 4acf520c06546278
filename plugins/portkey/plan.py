"""A Portkey config, read and checked: a tree of targets that says nothing yet of upstreams and of the call."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from plugins.portkey.conditions import Facts, Test, asks
from plugins.portkey.keys import CONDITION, NODE, STRATEGY, Refused, fields_of, nearest
from plugins.portkey.settings import (
    ANY_ERROR,
    KINDS,
    UNANSWERED,
    amount,
    codes_of,
    named_in,
    one_of,
    settings_of,
)
from proxy import Target

Mode: TypeAlias = Literal["loadbalance", "fallback", "conditional"]

_MODES: Final = ("single", "loadbalance", "fallback", "conditional")
_LONGEST: Final = 16_384  # characters of a config in a header
_DEEPEST: Final = 32
_DEEPEST_TARGETS: Final = 4
_MOST_TARGETS: Final = 32
_MOST_CODES: Final = 64
_LARGEST_INTEGER: Final = 1 << 64
_LONGEST_TIMEOUT: Final = 3_600_000  # milliseconds


class Leaf(Struct, frozen=True):
    """A target that is sent to: ``named`` is kind → name, the upstream of ``target`` is still open."""

    path: str
    named: Mapping[str, str]
    target: Target

    @property
    def is_silent(self) -> bool:
        """Whether it says nothing at all."""
        return not self.named and self.target == Target("")


class Group(Struct, frozen=True):
    """Targets among which the call, its weight or a failure decides."""

    path: str
    mode: Mode
    members: tuple["Node", ...]
    weights: tuple[float, ...]
    on: frozenset[int]
    conditions: tuple[tuple[Test, int], ...] = ()
    default: int | None = None

    @property
    def unanswered(self) -> bool:
        """Whether it falls back after a call that may have arrived."""
        return bool(self.on & UNANSWERED)

    def chosen(self, facts: Facts) -> "Node":
        """The member for a call; raises ``Refused`` when no condition is met and there is no default."""
        found = next((at for test, at in self.conditions if test(facts)), self.default)
        if found is None:
            raise Refused(
                f"no condition of {self.path}.strategy is met, and it has no default: add one, or change the call."
            )
        return self.members[found]


Node: TypeAlias = Leaf | Group


def leaves(node: Node) -> Iterator[Leaf]:
    """Every target that could be sent to."""
    if isinstance(node, Leaf):
        yield node
    else:
        for member in node.members:
            yield from leaves(member)


@lru_cache(maxsize=256)
def read(text: str) -> Node:
    """The config of a header; a program sends the same with every call. Raises ``Refused``."""
    if len(text) > _LONGEST:
        raise Refused(
            f"it is longer than {_LONGEST} characters: ask for it to be listed, and send its id."
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("it is neither an id nor a JSON object; send one of them.") from None
    return plan_of(value)


def plan_of(value: Any) -> Node:
    """The tree of a config; raises ``Refused``."""
    _check_values(value, 0)
    node = _node(value, "config", Target(""), 0)
    if sum(1 for _ in leaves(node)) > _MOST_TARGETS:
        raise Refused(f"it has more than {_MOST_TARGETS} targets: send fewer.")
    return node


def _check_values(value: Any, depth: int) -> None:
    """Refuse what JSON could not say to an upstream."""
    if depth > _DEEPEST:
        raise Refused(f"it is deeper than {_DEEPEST} levels: write it flatter.")
    if isinstance(value, Mapping | list):
        for item in (*value, *value.values()) if isinstance(value, Mapping) else value:
            _check_values(item, depth + 1)
    elif isinstance(value, str):
        if not value.isascii() and value != value.encode(errors="replace").decode():
            raise Refused("it holds half a character: write valid Unicode.")
    elif isinstance(value, int | float) and not abs(value) < _LARGEST_INTEGER:
        raise Refused("it holds a number that is too large: write one of 64 bits.")


# -- the tree ----------------------------------------------------------------------------------------


def _node(value: Any, place: str, above: Target, depth: int) -> Node:
    fields = fields_of(value, place, NODE)
    target = settings_of(fields, place, above)
    strategy = fields_of(fields.get("strategy", {}), f"{place}.strategy", STRATEGY)
    mode = one_of(strategy.get("mode"), f"{place}.strategy.mode", _MODES) if strategy else None
    if "targets" not in fields:
        if mode not in (None, "single"):
            raise Refused(f"{place} has no targets, which {mode} is about: list them.")
        return Leaf(place, named_in(fields, place), target)
    if mode is None:
        raise Refused(
            f"{place} has targets and no strategy.mode: write one of {', '.join(_MODES)}."
        )
    if named := [kind for kind in KINDS if kind in fields]:
        raise Refused(f"{place} has targets and {named[0]!r}: write it into the targets.")
    return _group(fields["targets"], strategy, place, target, depth)


def _group(
    targets: Any, strategy: Mapping[str, Any], place: str, target: Target, depth: int
) -> Node:
    if not isinstance(targets, list) or not 0 < len(targets) <= _MOST_TARGETS:
        raise Refused(f"{place}.targets is no list of 1 to {_MOST_TARGETS} targets: write one.")
    if depth >= _DEEPEST_TARGETS:
        raise Refused(f"{place} lies deeper than {_DEEPEST_TARGETS} targets: write it flatter.")
    mode = strategy["mode"]
    places = [f"{place}.targets[{number}]" for number in range(len(targets))]
    members = tuple(
        _node(item, where, target, depth + 1) for item, where in zip(targets, places, strict=True)
    )
    if mode == "single":
        return members[0]
    conditions, default = (
        _conditions(strategy, targets, place) if mode == "conditional" else ((), None)
    )
    return Group(
        path=place,
        mode=mode,
        members=members,
        weights=_weights(targets, places) if mode == "loadbalance" else (),
        on=codes_of(strategy, f"{place}.strategy", ANY_ERROR),
        conditions=conditions,
        default=default,
    )


def _weights(targets: Sequence[Any], places: Sequence[str]) -> tuple[float, ...]:
    weights = tuple(
        amount(target.get("weight", 1), f"{place}.weight", math.inf)
        for target, place in zip(targets, places, strict=True)
    )
    if not any(weights):
        raise Refused(f"every weight in {places[0][:-3]} is 0: give one of them 1.")
    return weights


def _conditions(
    strategy: Mapping[str, Any], targets: Sequence[Any], place: str
) -> tuple[tuple[tuple[Test, int], ...], int | None]:
    names = [target.get("name") for target in targets]
    conditions = strategy.get("conditions")
    if not isinstance(conditions, list) or not 0 < len(conditions) <= _MOST_TARGETS:
        raise Refused(
            f"{place}.strategy.conditions is no list of 1 to {_MOST_TARGETS} conditions: write one."
        )
    found = []
    for number, condition in enumerate(conditions):
        where = f"{place}.strategy.conditions[{number}]"
        fields = fields_of(condition, where, CONDITION)
        then = _member(fields.get("then"), f"{where}.then", names)
        found.append((asks(fields.get("query"), f"{where}.query"), then))
    default = strategy.get("default")
    where = f"{place}.strategy.default"
    return tuple(found), None if default is None else _member(default, where, names)


def _member(name: Any, place: str, names: list[Any]) -> int:
    if not isinstance(name, str) or name not in names:
        known = [name for name in names if isinstance(name, str)]
        meant = nearest(name, known) if isinstance(name, str) else ""
        raise Refused(
            f"{place} is the name of no target beside it: give one of them that name.{meant}"
        )
    return names.index(name)
