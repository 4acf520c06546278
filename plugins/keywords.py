"""Finds the phrases, project names and customers that an operator lists in files."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import ahocorasick_rs

from proxy import ConfigError, Detector, hookimpl

Find: TypeAlias = Callable[[str], Iterator[tuple[int, int]]]
# Where a phrase may begin: at a word, or at any other character.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_]+|[^\sA-Za-z0-9_]")
_GROUPS: Final = ("keywords",)
_EDGE: Final = r"\b"
_FEW: Final = 4096  # characters of phrases that make a pattern; more make an automaton of their own
_WINDOW: Final = 64  # characters; a long list is looked up in pieces of at least so many
_LONGEST: Final = 256  # characters; longer phrases would hold back as much of a stream


@dataclass(frozen=True)
class Keywords:
    """``[plugins.options.files]``: kind = "path"; one phrase a line, UTF-8, lines with ``#`` are remarks.

    Case does not count unless ``case = true``; a phrase is found as whole words unless ``words = false``.
    A stream holds back the beginnings of phrases; with a long list, up to twice the longest phrase.
    """

    files: dict[str, str] = field(default_factory=dict)
    case: bool = False
    words: bool = True

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """One detector a file, however long; raises ``ConfigError`` for a file that cannot serve."""
        if not self.files:
            raise ConfigError('no files: add [plugins.options.files] with kind = "path"')
        for kind, path in self.files.items():
            phrases = [phrase if self.case else lowered(phrase) for phrase in read(path)]
            yield self._detector(kind, phrases)

    def _detector(self, kind: str, phrases: list[str]) -> Detector:
        if sum(map(len, phrases)) <= _FEW:
            return self._pattern(kind, phrases)
        window = max(_WINDOW, *map(len, phrases)) + 1
        return Detector(kind=kind, find=self._finder(phrases), window=window, groups=_GROUPS)

    def _pattern(self, kind: str, phrases: list[str]) -> Detector:
        """A short list as a pattern: a stream holds back no more than the beginning of a phrase."""
        longest_first = sorted(phrases, key=len, reverse=True)
        choices = "|".join(map(self._bounded, longest_first))
        plain = choices.isascii()
        return Detector(
            kind=kind, core=choices if self.case else f"(?i:{choices})", fold=plain, groups=_GROUPS
        )

    def _bounded(self, phrase: str) -> str:
        before, after = (self.words and _joins(char) for char in (phrase[0], phrase[-1]))
        return rf"{_EDGE * before}{re.escape(phrase)}{_EDGE * after}"

    def _finder(self, phrases: list[str]) -> Find:
        search = by_first_word(phrases) if self.words else anywhere(phrases)
        return search if self.case else lambda text: search(lowered(text))


def by_first_word(phrases: list[str]) -> Find:
    """Finds phrases as whole words: at each word, those lengths are tried that phrases with this word have.

    An automaton finds as fast, but takes forty seconds to build for a million phrases; this takes two.
    """
    known = frozenset(phrases)
    lengths: dict[str, set[int]] = {}
    for phrase in known:
        lengths.setdefault(_first(phrase), set()).add(len(phrase))
    tries = {word: tuple(sorted(sizes, reverse=True)) for word, sizes in lengths.items()}

    def find(text: str) -> Iterator[tuple[int, int]]:
        if tries.keys().isdisjoint(_TOKEN.findall(text)):
            return
        reached = 0
        for word in _TOKEN.finditer(text):
            start = word.start()
            for size in tries.get(word[0], ()) if start >= reached else ():
                end = start + size
                if text[start:end] in known and not _goes_on(text, end):
                    yield start, end
                    reached = end
                    break

    return find


def anywhere(phrases: list[str]) -> Find:
    """Finds phrases inside words too."""
    automaton = ahocorasick_rs.AhoCorasick(
        phrases, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest, store_patterns=False
    )

    def find(text: str) -> Iterator[tuple[int, int]]:
        return ((start, end) for _, start, end in automaton.find_matches_as_indexes(text))

    return find


def _first(phrase: str) -> str:
    token = _TOKEN.search(phrase)
    return token[0] if token else phrase


def read(path: str) -> list[str]:
    """The phrases of a file, each once; raises ``ConfigError`` when there are none or one is too long."""
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8: save it as UTF-8") from None
    phrases = dict.fromkeys(line.strip() for line in lines if not line.startswith("#"))
    phrases.pop("", None)
    if not phrases:
        raise ConfigError(f"{path} lists no phrase: write one a line")
    if over := next((phrase for phrase in phrases if len(phrase) > _LONGEST), None):
        raise ConfigError(
            f"{path}: {over[:40]!r}… is longer than {_LONGEST} characters: list its beginning"
        )
    return list(phrases)


def lowered(text: str) -> str:
    """``text`` in lower case, every character in its place."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _goes_on(text: str, end: int) -> bool:
    return end < len(text) and _joins(text[end]) and _joins(text[end - 1])


def _joins(char: str) -> bool:
    """Letters of other scripts do not: some write without blanks between words."""
    return char.isascii() and (char.isalnum() or char == "_")
