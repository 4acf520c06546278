"""RE2 patterns over bytes, asked in the cheapest way there is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

# google-re2 ships no type stubs; its patterns over bytes count in bytes, which costs nothing.
import re2

Spans: TypeAlias = Sequence[tuple[int, int]]
Search: TypeAlias = Callable[[bytes, int], Spans | None]
_NOTHING: Final = -1
_METHODS: Final = {"UNANCHORED": "search", "ANCHOR_START": "match", "ANCHOR_BOTH": "fullmatch"}
_BINDING: Final = hasattr(re2, "_Anchor") and hasattr(re2.compile("a"), "_regexp")


class Matcher:
    """A compiled pattern. ``search`` gives the spans of the match and its groups, or None;
    ``begin`` the same for matches that start at the position, ``cover`` for those that also end where
    the text does.

    Raises ``re2.error`` for a pattern that RE2 refuses; ``memory`` bounds program and automaton, in
    bytes: past it RE2 uses a slower automaton.
    """

    __slots__ = ("begin", "cover", "search", "size")

    def __init__(self, pattern: str, memory: int = 8 << 20, *, direct: bool = True) -> None:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = memory
        compiled = re2.compile(pattern.encode(), options)
        ask = (_direct if direct and _BINDING else _public)(compiled)
        self.size: int = compiled.programsize
        self.search: Search = ask("UNANCHORED")
        self.begin: Search = ask("ANCHOR_START")
        self.cover: Search = ask("ANCHOR_BOTH")

    def start(self, text: bytes, position: int) -> int:
        """Where the leftmost match starts, the end of ``text`` when there is none."""
        spans = self.search(text, position)
        return len(text) if spans is None else spans[0][0]


def any_of(sources: Iterable[str], end: str = "", memory: int = 8 << 20) -> Matcher | None:
    """The pattern of any of ``sources`` before ``end``, or None without sources."""
    distinct = list(dict.fromkeys(sources))
    if not distinct:
        return None
    return Matcher(f"(?:{'|'.join(f'(?:{source})' for source in distinct)}){end}", memory)


def _direct(pattern: Any) -> Callable[[str], Search]:
    # The wrapper around the extension costs three times what most of our searches do.
    match = pattern._regexp.Match  # noqa: SLF001

    def ask(anchor: str) -> Search:
        where = getattr(re2._Anchor, anchor)  # noqa: SLF001

        def search(text: bytes, position: int) -> Spans | None:
            if position > len(text):
                return None
            spans: Spans = match(where, text, position, len(text))
            return None if spans[0][0] == _NOTHING else spans

        return search

    return ask


def _public(pattern: Any) -> Callable[[str], Search]:
    def ask(anchor: str) -> Search:
        method = getattr(pattern, _METHODS[anchor])

        def search(text: bytes, position: int) -> Spans | None:
            match = method(text, position) if position <= len(text) else None
            if match is None:
                return None
            return [match.span(group) for group in range(match.re.groups + 1)]

        return search

    return ask
