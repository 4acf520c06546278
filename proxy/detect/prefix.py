"""Patterns made from patterns: the whole, its beginnings, its length, and what is easier to search for."""

import re
from collections.abc import Iterable
from functools import cache, partial
from typing import Final

from proxy.detect.syntax import Alt, Assert, Cat, Char, Node, Repeat

_SCRIPT: Final = 2000  # instructions for the letters of a script, or of all
_NEGATION: Final = 24  # for all that is no ASCII, in UTF-8
_FEW: Final = 3  # times; what may come more often may as well come any number of times


def full(node: Node) -> str:
    """The pattern of ``node``, without groups that capture and without flags that reach further."""
    match node:
        case Char(pattern) | Assert(pattern):
            return pattern
        case Cat(parts):
            return "".join(map(_grouped, parts))
        case Alt(choices):
            return "|".join(map(full, choices))
        case Repeat(inner, low, high, lazy):
            return _times(_grouped(inner), low, high) + ("?" if lazy else "")


def proper(node: Node, rest: str | None = None) -> str:
    """The pattern of all beginnings of words of ``node`` after which something must or may still come.

    The empty beginning is always one. ``rest`` is the pattern of the beginnings of what follows the
    node, or None when nothing does: then a complete word that cannot grow is no beginning any more.
    """
    match node:
        case Char(pattern) | Assert(pattern):
            return (
                ""
                if rest is None or (not rest and isinstance(node, Assert))
                else _maybe(pattern + rest)
            )
        case Cat(parts):
            for part in filter(_something, reversed(parts)):
                rest = proper(part, rest)
            return rest or ""
        case Alt(choices):
            begun = [proper(choice) for choice in choices]
            return _any([*begun, *_complete(node, rest)])
        case Repeat(inner, low, high):
            return _proper_repeat(node, inner, low, high, rest)


def _proper_repeat(node: Node, inner: Node, low: int, high: int | None, rest: str | None) -> str:
    if high == 0:
        return rest or ""
    one = _grouped(inner)
    before = _times(one, 0, None if high is None else high - 1)
    if not isinstance(inner, Char):
        return _any([before + _wrap(proper(inner)), *_complete(node, rest)])
    if rest is None:
        return before
    if low == 0:
        return _times(one, 0, high) + rest
    return _any([_times(one, 0, low - 1), _times(one, low, high) + rest])


def _something(node: Node) -> bool:
    return node != Cat()


def _complete(node: Node, rest: str | None) -> list[str]:
    return [] if rest is None else [_grouped(node) + rest]


def _any(patterns: Iterable[str]) -> str:
    """Any of ``patterns`` or nothing at all."""
    return _maybe("|".join(dict.fromkeys(filter(None, patterns))))


def _maybe(pattern: str) -> str:
    return f"(?:{pattern})?" if pattern else ""


def _wrap(pattern: str) -> str:
    return f"(?:{pattern})" if pattern else ""


def _grouped(node: Node) -> str:
    pattern = full(node)
    return pattern if isinstance(node, Char | Assert) else f"(?:{pattern})"


def _times(pattern: str, low: int, high: int | None) -> str:
    if high == 0:
        return ""
    if (low, high) == (1, 1):
        return pattern
    count = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((low, high))
    if count is None:
        count = f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"
    return pattern + count


def width(node: Node) -> tuple[int, int | None]:
    """The least and the greatest length of a word, in characters; None for any length."""
    match node:
        case Char():
            return 1, 1
        case Assert():
            return 0, 0
        case Cat(parts):
            widths = [width(part) for part in parts]
            return sum(low for low, _ in widths), _total(high for _, high in widths)
        case Alt(choices):
            widths = [width(choice) for choice in choices]
            highs = [high for _, high in widths]
            known = [high for high in highs if high is not None]
            return min(low for low, _ in widths), max(known) if len(known) == len(highs) else None
        case Repeat(inner, low, high):
            least, most = width(inner)
            if most == 0 or high == 0:
                return 0, 0
            return least * low, None if most is None or high is None else most * high


def _total(lengths: Iterable[int | None]) -> int | None:
    total = 0
    for length in lengths:
        if length is None:
            return None
        total += length
    return total


def weight(node: Node) -> int:
    """RE2 instructions that the pattern of ``node`` takes, at most and roughly."""
    match node:
        case Char(pattern):
            return _char_weight(pattern)
        case Assert():
            return 1
        case Cat(parts) | Alt(parts):
            return len(parts) + sum(map(weight, parts))
        case Repeat(inner, low, high):
            return (weight(inner) + 1) * max(low + 1 if high is None else high, 1)


@cache
def _char_weight(pattern: str) -> int:
    if not pattern.isascii() or re.search(r"\\[pP]", pattern):
        return _SCRIPT
    negated = _NEGATION if re.search(r"^\[\^|[.:]|\\[DSW]", pattern) else 0
    return (2 if pattern.startswith("\\") else 1) * len(pattern) + negated


def unended(node: Node) -> Node:
    """``node`` without the conditions it ends with: these depend on what comes next."""
    match node:
        case Assert():
            return Cat()
        case Cat(parts):
            kept = list(parts)
            for index in range(len(kept) - 1, -1, -1):
                kept[index] = unended(kept[index])
                if width(kept[index])[0]:
                    break
            return Cat(tuple(kept))
        case Alt(choices):
            return Alt(tuple(map(unended, choices)))
        case Repeat(inner, low, high, lazy):
            return Repeat(_unconditional(inner), low, high, lazy)
        case _:
            return node


def _unconditional(node: Node) -> Node:
    match node:
        case Assert():
            return Cat()
        case Cat(parts):
            return Cat(tuple(map(_unconditional, parts)))
        case Alt(choices):
            return Alt(tuple(map(_unconditional, choices)))
        case Repeat(inner, low, high, lazy):
            return Repeat(_unconditional(inner), low, high, lazy)
        case _:
            return node


def relaxed(node: Node, *, least: bool = True) -> Node:
    """``node`` without upper bounds: finds wherever ``node`` does, with an automaton that stays small.

    An automaton that counts has a state for every count it has met, which is another one for almost every
    text: making them costs far more than searching. Without ``least``, lower bounds are left out as well.
    """
    relax = partial(relaxed, least=least)
    match node:
        case Cat(parts):
            return Cat(tuple(map(relax, parts)))
        case Alt(choices):
            return Alt(tuple(map(relax, choices)))
        case Repeat(inner, low, high):
            low = low if least else min(low, 1)
            open_ended = high is not None and high > max(low, _FEW)
            return Repeat(relax(inner), low, None if open_ended else high)
        case _:
            return node
