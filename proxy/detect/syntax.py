"""Patterns in RE2's syntax, read into a tree: what the prefix patterns and the literals are made from."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, TypeAlias

from proxy.errors import ConfigError
from proxy.patterns import linear

Node: TypeAlias = "Char | Assert | Cat | Alt | Repeat"
_MOST_LETTERS: Final = 8  # a class of more characters starts no literal


@dataclass(frozen=True, slots=True)
class Char:
    """One character: its pattern, and the ASCII characters it may be where these are few."""

    pattern: str
    letters: str = ""


@dataclass(frozen=True, slots=True)
class Assert:
    """A condition between two characters, such as a word boundary."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Cat:
    """One thing after the other; nothing, when it is empty."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Alt:
    """One of several, the first that fits."""

    choices: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same thing ``low`` to ``high`` times; ``high`` is None for any number."""

    node: Node
    low: int
    high: int | None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class _Flags:
    """The flags in force: i, m, s and U."""

    fold: bool = False
    lines: bool = False
    dot_all: bool = False
    lazy: bool = False


_TERM: Final = re.compile(
    r"""(?P<quoted>\\Q(?:[^\\]|\\(?!E))*(?:\\E|$))
    |(?P<group>\(\?(?:P?<\w+>|[imsU]*(?:-[imsU]+)?[:)])|\()
    |(?P<class>\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{[^}]*\}|\\.|[^\]\\])*\])
    |(?P<escape>\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|..)|[0-7]{1,3}|.))
    |(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})\??)
    |(?P<char>.)""",
    re.VERBOSE | re.DOTALL,
)
_COUNT: Final = re.compile(r"\{(\d+)(,?)(\d*)\}")
_BOUNDS: Final = (200, 30, 9, 5)  # RE2 allows 1000 times, nested counts multiplied
_KNOWN: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTROL: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_FLAG_NAMES: Final = {"i": "fold", "m": "lines", "s": "dot_all", "U": "lazy"}


def parse(pattern: str) -> Node:
    r"""The tree of ``pattern``, which RE2 must have accepted; raises ``ConfigError`` for ``\C``.

    Source: RE2 syntax reference.
    """
    return _Reader(pattern).choices(_Flags())


def bounded(pattern: str) -> str:
    """``pattern`` with its open-ended repetitions ended, as high as RE2 lets them be.

    Raises ``ConfigError`` for a pattern that RE2 refuses anyway.
    """
    candidates = [_ended_at(pattern, most) for most in _BOUNDS]
    for candidate in candidates[:-1]:
        with contextlib.suppress(ConfigError):
            linear(candidate)
            return candidate
    linear(pattern)
    return candidates[-1]


def _ended_at(pattern: str, most: int) -> str:
    return _TERM.sub(lambda match: _ended(match, most), pattern)


def _ended(match: re.Match[str], most: int) -> str:
    term = match[0]
    if match.lastgroup != "repeat":
        return term
    count = term[:-1] if len(term) > 1 and term.endswith("?") else term
    low = {"*": 0, "+": 1}.get(count, int(count[1:-2]) if count.endswith(",}") else None)
    if low is None:
        return term
    return f"{{{low},{max(low, most)}}}" + term[len(count) :]


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._terms = [(match.lastgroup, match[0]) for match in _TERM.finditer(pattern)]
        self._next = 0

    def choices(self, flags: _Flags) -> Node:
        """Alternatives up to the end of the group."""
        found: list[Node] = []
        parts: list[Node] = []
        while self._next < len(self._terms):
            kind, term = self._terms[self._next]
            self._next += 1
            if kind == "char" and term == ")":
                break
            if kind == "char" and term == "|":
                found.append(Cat(tuple(parts)))
                parts = []
            elif kind == "group" and term.endswith(")"):
                flags = _changed(flags, term)  # to the end of the group, over its alternatives
            elif kind == "repeat":
                parts.append(_repeat(parts.pop(), term, flags))
            else:
                parts += self._atoms(kind or "", term, flags)
        last = Cat(tuple(parts))
        return Alt((*found, last)) if found else last

    def _atoms(self, kind: str, term: str, flags: _Flags) -> list[Node]:
        if kind == "quoted":
            return [literal(char, flags.fold) for char in term[2:].removesuffix("\\E")]
        if kind == "group":
            return [self.choices(_changed(flags, term))]
        return [_atom(kind, term, flags)]


@cache
def literal(char: str, fold: bool = False) -> Char:
    """The node for a character as it stands, or for both its cases."""
    if fold and char.isascii() and char.isalpha():
        # Spelt out, because RE2's own folding adds the Kelvin sign and the long s.
        return Char(f"[{char.lower()}{char.upper()}]", char.lower() + char.upper())
    pattern = f"(?i:{_escaped(char)})" if fold and not char.isascii() else _escaped(char)
    return Char(pattern, char if char.isascii() else "")


def _escaped(char: str) -> str:
    if not char.isascii() or char.isalnum():
        return char
    return rf"\x{ord(char):02x}" if char < "!" or char == "\x7f" else "\\" + char


def _changed(flags: _Flags, term: str) -> _Flags:
    if not term.startswith("(?") or "<" in term:
        return flags
    on, _, off = term[2:-1].partition("-")
    changes = {_FLAG_NAMES[name]: True for name in on} | {_FLAG_NAMES[name]: False for name in off}
    return replace(flags, **changes)


def _repeat(node: Node, term: str, flags: _Flags) -> Node:
    count = term[:-1] if len(term) > 1 and term.endswith("?") else term
    lazy = (count != term) != flags.lazy
    if count in _KNOWN:
        return Repeat(node, *_KNOWN[count], lazy)
    match = _COUNT.fullmatch(count)
    assert match is not None, count  # noqa: S101 - the term pattern says so
    low = int(match[1])
    high = int(match[3]) if match[3] else None if match[2] else low
    return Repeat(node, low, high, lazy)


def _char(term: str, flags: _Flags) -> Node:
    if term == ".":
        return Char("(?s:.)" if flags.dot_all else ".")
    if term == "^":
        return Assert("(?m:^)" if flags.lines else r"\A")
    if term == "$":
        return Assert("(?m:$)" if flags.lines else r"\z")
    return literal(term, flags.fold)


def _escape(term: str, flags: _Flags) -> Node:
    letter = term[1]
    if letter in "bBAz":
        return Assert(term)
    if letter == "C":
        raise ConfigError(r"it matches single bytes with \C; write '(?s:.)' for any character")
    if letter in "dDsSwWpP":
        return Char(f"(?i:{term})" if flags.fold and letter in "pP" else term)
    return literal(_meant(term), flags.fold)


def _meant(term: str) -> str:
    r"""The character that an escape such as ``\n``, ``\x{e9}``, ``\101`` or ``\.`` stands for."""
    letter, rest = term[1], term[2:]
    if letter == "x":
        return chr(int(rest.strip("{}"), 16))
    if letter.isdigit():
        return chr(int(term[1:], 8))
    return _CONTROL.get(letter, letter)


def _class(term: str, flags: _Flags) -> Node:
    members = _members(term)
    if members and flags.fold:
        members = "".join(sorted({*members.lower(), *members.upper()}))
    if members:
        return Char("[" + "".join(map(_in_class, members)) + "]", members)
    return Char(f"(?i:{term})" if flags.fold else term)


def _in_class(char: str) -> str:
    return char if char.isalnum() else rf"\x{ord(char):02x}"


def _members(term: str) -> str:
    """The characters of a class that lists a few ASCII characters, else nothing."""
    inside = re.sub(r"\\([tnrfv])", lambda match: _CONTROL[match[1]], term[1:-1])
    if (
        inside.startswith("^")
        or not inside.isascii()
        or re.search(r"(?s).-.|\[|\\[a-zA-Z0-9]", inside)
    ):
        return ""
    members = "".join(dict.fromkeys(re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)))
    return members if len(members) <= _MOST_LETTERS else ""


_ATOMS: Final[dict[str, Callable[[str, _Flags], Node]]] = {
    "char": _char,
    "escape": _escape,
    "class": _class,
}


@cache  # the same few terms make up all patterns
def _atom(kind: str, term: str, flags: _Flags) -> Node:
    return _ATOMS[kind](term, flags)
