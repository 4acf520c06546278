"""Rules that read the same text, arranged so that a text is not searched for what cannot be there."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Final

import ahocorasick_rs

from proxy.detect.literals import CutLiterals
from proxy.detect.matcher import Matcher, Several, any_of
from proxy.detect.rule import Rule

_AUTOMATON: Final = 32 << 20  # bytes for the automaton that all rules share
_GROUP: Final = 8  # rules whose automata are made one; it has a state for what each of them has met
_TEXT_END: Final = r"\z"


class Plan:
    """The rules of one way to read a text (as it is, or folded).

    Rules that start with a literal are looked at only where it stands; the others share one automaton
    that tells which of them may match, and one that tells whether any could still match.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = {rule.index: rule for rule in rules}
        self.most = {rule.index: rule.detector.most for rule in rules if rule.detector.opens}
        self.always = tuple(rule for rule in rules if not rule.starts)
        self.with_context = tuple(rule for rule in self.always if rule.has_context)
        by_literal: dict[str, list[Rule]] = {}
        for rule in rules:
            for word in rule.starts:
                by_literal.setdefault(word, []).append(rule)
        self._by_literal = list(by_literal.values())
        self._families = _families(rules)
        self._literals = _automaton(by_literal) if by_literal else None

    @cached_property
    def _groups(self) -> "list[_Group]":
        rules = sorted(self.always, key=attrgetter("least"))
        return [_Group(rules[at : at + _GROUP]) for at in range(0, len(rules), _GROUP)]

    @cached_property
    def _plain(self) -> "_Begun":
        return _Begun([rule for rule in self.rules.values() if not rule.has_context])

    @cached_property
    def _context(self) -> "_Begun":
        return _Begun([rule for rule in self.rules.values() if rule.has_context])

    def wanted(self, text: bytes, start: int) -> dict[Rule, list[int]]:
        """The rules whose literal stands at or after ``start``, and where."""
        if self._literals is None:
            return {}
        region = text[start:].lower()
        places: dict[Rule, list[int]] = {}
        for word, at, _ in self._literals.find_matches_as_indexes(region, overlapping=True):
            for rule in self._by_literal[word]:
                places.setdefault(rule, []).append(start + at)
        return places

    def promising(
        self, text: bytes, wanted: Mapping[Rule, list[int]], most: int
    ) -> dict[Rule, Sequence[int] | None]:
        """The rules of ``wanted`` of which a match may start at any of their places, and these in order.

        More places than ``most`` are not looked at: then None.
        """
        rules: dict[Rule, Sequence[int] | None] = {}
        asked: dict[_Family, list[int]] = {}
        for rule, places in wanted.items():
            family = self._families.get(rule.index)
            if len(places) > most:
                rules[rule] = None
            elif family is None:
                rules[rule] = sorted(places)
            else:
                if family not in asked:
                    asked[family] = family.near(text, places)
                if asked[family]:
                    rules[rule] = asked[family]
        return rules

    def limits(self, text: bytes, plain: int, context: int) -> tuple[int, int]:
        """Where the leftmost match starts that the end cuts off, of rules without and with a context.

        At the end itself, when nothing is open; searched from ``plain`` and ``context`` on.
        """
        return self._plain.start(text, plain), self._context.start(text, context)

    def standing(self, text: bytes, start: int) -> list[Rule]:
        """The rules that start without a literal of which a match may stand at or after ``start``."""
        found: list[Rule] = []
        before = max(start - 1, 0)  # with one character more, for word boundaries
        for group in self._groups:
            if len(text) - start < group.least:
                break
            found += group.matching(text[before:])
        return found


class _Group:
    """Rules that start without a literal, those that take least text first."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._near = Several((rule.near_source for rule in rules), _AUTOMATON)
        self.least = rules[0].least

    def matching(self, text: bytes) -> list[Rule]:
        """Those of which a match may stand in ``text``."""
        return [self._rules[index] for index in self._near.matching(text)]


class _Family:
    """Rules that start with the same literals, and so at the same places: asked about together first."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    @cached_property
    def _near(self) -> tuple[Matcher, int]:
        sources = "|".join(f"(?:{rule.near_source})" for rule in self._rules)
        return Matcher(sources, _AUTOMATON), max(rule.reach for rule in self._rules)

    def near(self, text: bytes, places: Iterable[int]) -> list[int]:
        """Those of ``places`` where a match of one of the rules may start, in order."""
        matcher, reach = self._near
        return [at for at in sorted(places) if matcher.begins(text, at, reach)]


def _families(rules: Iterable[Rule]) -> dict[int, _Family]:
    """The family of each rule that has one."""
    by_starts: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        if rule.starts:
            by_starts.setdefault(rule.starts, []).append(rule)
    families = [(_Family(alike), alike) for alike in by_starts.values() if len(alike) > 1]
    return {rule.index: family for family, alike in families for rule in alike}


class _Begun:
    """What the end of a text cuts off: matches of rules without a literal, and literals of the others."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = list(rules)
        open_starts = [rule for rule in rules if not rule.starts]
        self._live = any_of((rule.live_source for rule in open_starts), memory=_AUTOMATON)
        self._begun = any_of((rule.begun_source for rule in open_starts), _TEXT_END, _AUTOMATON)
        self._reach = max((rule.reach for rule in open_starts), default=0)
        self._literals = CutLiterals(
            (word, rule.condition) for rule in rules for word in rule.starts
        )

    def start(self, text: bytes, position: int) -> int:
        """Where the leftmost of them starts, at ``position`` or after it; the end, without."""
        start = self._literals.start(text, position)
        if self._live is None or self._begun is None:
            return start
        # Read backwards from the end, as the leftmost is found, the exact patterns would need an automaton
        # without end: at the end each of them may be anywhere.
        place = self._begun.start(text, max(position, len(text) - self._reach))
        while place < start and self._live.cover(text, place) is None:
            place = self._begun.start(text, place + 1)
        return min(start, place)


def _automaton(words: Iterable[str]) -> ahocorasick_rs.BytesAhoCorasick:
    encoded = [word.encode() for word in words]
    implementation = ahocorasick_rs.Implementation.DFA
    return ahocorasick_rs.BytesAhoCorasick(encoded, implementation=implementation)
