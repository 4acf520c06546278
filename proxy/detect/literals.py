"""The literals that every match of a pattern starts with: where none of them stands, nothing is searched."""

import re
from collections.abc import Iterable
from typing import Final

from proxy.detect.syntax import Alt, Assert, Cat, Char, Node, Repeat

_SHORTEST: Final = 3  # characters; a shorter literal stands in every other sentence
_LENGTHS: Final = (16, 8, 6, 5, 4, _SHORTEST)  # of the longest that are tried, one after the other
_MOST: Final = 96
_MOST_PAIRS: Final = 1024
_LONGEST: Final = _LENGTHS[0]
_NOWHERE, _AT_BOUNDARIES, _ANYWHERE = range(3)
_BOUNDARY: Final = r"\b"
_WORD: Final = frozenset(b"".join(re.findall(rb"\w", bytes(range(256)))))  # as numbers


def starts(node: Node) -> tuple[str, ...]:
    """Lower-case literals with one of which every word starts; none when there is no useful choice.

    Of the choices there are, the one whose shortest literal is longest: it stands in fewest places.
    """
    best: tuple[str, ...] = ()
    for length in _LENGTHS:
        beginnings = _Beginnings(length)
        words, _ = beginnings.of(node)
        kept = _without_longer(words)
        if len(kept) <= _MOST and _least(kept) > _least(best):
            best = kept
        if not beginnings.clipped:
            break
    return best if _least(best) >= _SHORTEST else ()


def _least(words: Iterable[str]) -> int:
    return min(map(len, words), default=0)


def _without_longer(words: Iterable[str]) -> tuple[str, ...]:
    """``words`` without those that start with another of them."""
    kept: list[str] = []
    for word in sorted(words):
        if not kept or not word.startswith(kept[-1]):
            kept.append(word)
    return tuple(kept)


class _Beginnings:
    """The beginnings of words, cut at ``length``, and whether each is a whole word.

    ``clipped`` tells that there were too many to go on: shorter ones may reach further.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self.clipped = False

    def of(self, node: Node) -> tuple[set[str], bool]:
        match node:
            case Char(_, letters) if letters:
                return set(letters.lower()), True
            case Assert():
                return {""}, True
            case Cat(parts):
                return self._sequence(parts)
            case Alt(choices):
                found = [self.of(choice) for choice in choices]
                return set().union(*(words for words, _ in found)), all(all_ for _, all_ in found)
            case Repeat(inner, low, high):
                return self._repeated(inner, low, high)
            case _:
                return {""}, False

    def _sequence(self, parts: Iterable[Node]) -> tuple[set[str], bool]:
        words = {""}
        for part in parts:
            found, whole = self.of(part)
            longer = self._joined(words, found)
            if longer is None:
                return words, False
            words = longer
            if not whole or _least(words) >= self._length:
                return words, False
        return words, True

    def _repeated(self, inner: Node, low: int, high: int | None) -> tuple[set[str], bool]:
        words, whole = self._sequence([inner] * min(low, self._length))
        more, whole_more = self.of(inner)
        if not (whole and whole_more):
            return words, False
        found, last = set(words), words
        for _ in range(low, self._length if high is None else min(high, self._length)):
            longer = self._joined(last, more)
            if longer is None or len(found := found | longer) > _MOST:
                self.clipped = True
                return words, False
            last = longer
        return found, True

    def _joined(self, words: set[str], more: set[str]) -> set[str] | None:
        """Each of ``words`` with each of ``more`` behind it, or None when these are too many."""
        if len(words) * len(more) <= _MOST_PAIRS:
            joined = {(word + end)[: self._length] for word in words for end in more}
            if len(joined) <= _MOST:
                return joined
        self.clipped = True
        return None


def leading(node: Node) -> str:
    """The condition that every word starts with, such as a word boundary, or nothing."""
    while isinstance(node, Cat) and node.parts:
        node = node.parts[0]
    return node.pattern if isinstance(node, Assert) else ""


class CutLiterals:
    """Literals that the end of a text may cut off; each with the condition that has to hold before it.

    Those of rules without and of rules with a context are looked for at once, and told apart.
    """

    def __init__(self, literals: Iterable[tuple[str, str, bool]]) -> None:
        # Beginning → for rules without and with a context, where it may stand.
        self._begun: dict[bytes, list[int]] = {}
        for word, condition, context in literals:
            where = _AT_BOUNDARIES if condition == _BOUNDARY else _ANYWHERE
            for size in range(1, len(word)):
                known = self._begun.setdefault(word[:size].encode(), [_NOWHERE, _NOWHERE])
                known[context] = max(known[context], where)

    def start(self, text: bytes, plain: int, context: int) -> tuple[int, int]:
        """Where the leftmost literals start that the end cuts off: from ``plain`` on those of rules without a
        context, from ``context`` on those of rules with one; the end, without.

        Conditions other than a word boundary are taken to hold.
        """
        size, known = len(text), self._begun.get
        first = max(min(plain, context), size - _LONGEST)
        tail = text[first:].lower()
        in_plain = in_context = size
        for at in range(len(tail)):
            if (begun := known(tail[at:])) is None:
                continue
            place = first + at
            least = _AT_BOUNDARIES if _is_boundary(text, place) else _ANYWHERE
            if in_plain == size and place >= plain and begun[0] >= least:
                in_plain = place
            if in_context == size and place >= context and begun[1] >= least:
                in_context = place
        return in_plain, in_context


def _is_boundary(text: bytes, place: int) -> bool:
    before = place > 0 and text[place - 1] in _WORD
    return before != (place < len(text) and text[place] in _WORD)
