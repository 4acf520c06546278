"""RE2 patterns over bytes, asked in the cheapest way there is."""

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

# google-re2 ships no type stubs; its patterns over bytes count in bytes, which costs nothing.
import re2

Spans: TypeAlias = Sequence[tuple[int, int]]
_NOTHING: Final = -1
_MEMORY: Final = 8 << 20  # bytes
_METHODS: Final = {"UNANCHORED": "search", "ANCHOR_START": "match", "ANCHOR_BOTH": "fullmatch"}
_SEARCHED: Final = 1024  # bytes that are searched as fast as one place is looked at
_LAST: Final = sys.maxsize
_BINDING: Final = hasattr(re2, "_Anchor") and hasattr(re2.compile("a"), "_regexp")


class Search(Protocol):
    """How a pattern is asked."""

    def __call__(self, text: bytes, position: int, end: int = ..., /) -> Spans | None:
        """The spans of the match and its groups in ``text`` from ``position`` on, not beyond ``end``."""


class Matcher:
    """A compiled pattern. ``search`` gives the spans of the match and its groups, or None;
    ``begin`` the same for matches that start at the position, ``cover`` for those that also end where
    the text does, or at ``end``.

    Raises ``re2.error`` for a pattern that RE2 refuses; ``memory`` bounds program and automaton, in
    bytes: past it RE2 uses a slower automaton.
    """

    __slots__ = ("begin", "cover", "search", "size")

    def __init__(self, pattern: str, memory: int = _MEMORY, *, direct: bool = True) -> None:
        compiled = re2.compile(pattern.encode(), _options(memory))
        ask = (_direct if direct and _BINDING else _public)(compiled)
        self.size: int = compiled.programsize
        self.search: Search = ask("UNANCHORED")
        self.begin: Search = ask("ANCHOR_START")
        self.cover: Search = ask("ANCHOR_BOTH")

    def begins(self, text: bytes, position: int, reach: int) -> bool:
        """Whether a match starts at ``position`` and takes no more than ``reach`` bytes."""
        return self.begin(text, position, position + reach) is not None

    def begun(self, text: bytes, places: Sequence[int], reach: int) -> Sequence[int]:
        """Those of ``places``, in order, where a match starts that takes no more than ``reach`` bytes.

        They must be all places where one could start: one search tells where the first of them is.
        """
        if places[1:] and len(text) - places[0] <= _SEARCHED * len(places):
            places = places[bisect_left(places, self.start(text, places[0])) :]
        return [at for at in places if self.begins(text, at, reach)]

    def start(self, text: bytes, position: int) -> int:
        """Where the leftmost match starts, the end of ``text`` when there is none."""
        spans = self.search(text, position)
        return len(text) if spans is None else spans[0][0]


class Several:
    """Patterns that are searched for at once; tells which of them match, not where."""

    __slots__ = ("_set",)

    def __init__(self, sources: Iterable[str], memory: int) -> None:
        self._set = re2.Set.SearchSet(_options(memory))
        for source in sources:
            self._set.Add(source.encode())
        self._set.Compile()

    def matching(self, text: bytes) -> Sequence[int]:
        """The indices of the patterns of which a match stands in ``text``."""
        found: Sequence[int] | None = self._set.Match(text)
        return found or ()


def is_valid(pattern: str) -> bool:
    """Whether RE2 can read ``pattern``; far cheaper than compiling it."""
    try:
        re2.Set.SearchSet(_options()).Add(pattern.encode())
    except (re2.error, UnicodeEncodeError):
        return False
    return True


def _options(memory: int = _MEMORY) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    return options


def any_of(sources: Iterable[str], end: str = "", memory: int = _MEMORY) -> Matcher:
    """The pattern of any of ``sources`` before ``end``."""
    distinct = dict.fromkeys(sources)
    return Matcher(f"(?:{'|'.join(f'(?:{source})' for source in distinct)}){end}", memory)


def _direct(pattern: Any) -> Callable[[str], Search]:
    # The wrapper around the extension costs three times what most of our searches do.
    match = pattern._regexp.Match  # noqa: SLF001

    def ask(anchor: str) -> Search:
        where = getattr(re2._Anchor, anchor)  # noqa: SLF001

        def search(text: bytes, position: int, end: int = _LAST) -> Spans | None:
            size = len(text)
            if position > size:
                return None
            spans: Spans = match(where, text, position, min(size, end))
            return None if spans[0][0] == _NOTHING else spans

        return search

    return ask


def _public(pattern: Any) -> Callable[[str], Search]:
    def ask(anchor: str) -> Search:
        method = getattr(pattern, _METHODS[anchor])

        def search(text: bytes, position: int, end: int = _LAST) -> Spans | None:
            match = method(text, position, min(end, len(text))) if position <= len(text) else None
            if match is None:
                return None
            return [match.span(group) for group in range(match.re.groups + 1)]

        return search

    return ask
