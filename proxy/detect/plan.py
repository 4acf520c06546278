"""Rules that read the same text, arranged so that a text is not searched for what cannot be there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_BUNDLE: Final = 64  # rules of which it is asked whether any may have begun
_LARGEST: Final = (
    80_000  # RE2 instructions at once, roughly; a set that outgrows its memory would find nothing
)


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
        return [_Group(some) for some in _bundles(rules, _GROUP)]

    @cached_property
    def _begun(self) -> "tuple[_Begun, _Begun]":
        """What may have begun of rules without a context, and of those with one."""
        plain = [rule for rule in self.always if not rule.has_context]
        return _Begun(plain), _Begun(self.with_context)

    @cached_property
    def _cut(self) -> CutLiterals:
        rules = self.rules.values()
        return CutLiterals(
            (word, rule.condition, rule.has_context) for rule in rules for word in rule.starts
        )

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
        asked: dict[_Family, Sequence[int]] = {}
        for rule, places in wanted.items():
            family = self._families.get(rule.index)
            if len(places) > most:
                rules[rule] = None
            elif family is None:
                if near := rule.near_at(text, places):
                    rules[rule] = near
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
        cut = self._cut.start(text, plain, context)
        of_plain, of_context = self._begun
        return of_plain.start(text, plain, cut[0]), of_context.start(text, context, cut[1])

    def standing(self, text: bytes, start: int) -> list[Rule]:
        """The rules that start without a literal of which a match may stand at or after ``start``."""
        found: list[Rule] = []
        region = text[max(start - 1, 0) :]  # with one character more, for word boundaries
        for group in self._groups:
            if len(text) - start < group.least:
                break
            found += group.matching(region)
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
        self.rules = rules

    @cached_property
    def _near(self) -> tuple[Matcher, int]:
        near = any_of((rule.near_source for rule in self.rules), memory=_AUTOMATON)
        return near, max(rule.reach for rule in self.rules)

    def near(self, text: bytes, places: Iterable[int]) -> Sequence[int]:
        """Those of ``places`` where a match of one of the rules may start, in order."""
        matcher, reach = self._near
        return matcher.begun(text, sorted(places), reach)


def _families(rules: Iterable[Rule]) -> dict[int, _Family]:
    """The family of each rule that has one."""
    by_starts: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        if rule.starts:
            by_starts.setdefault(rule.starts, []).append(rule)
    families = [_Family(some) for alike in by_starts.values() for some in _bundles(alike, _GROUP)]
    return {rule.index: family for family in families for rule in family.rules if family.rules[1:]}


class _Begun:
    """Matches of rules without a literal that the end of a text cuts off."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._live = [_live(some) for some in _bundles(rules, _BUNDLE)]
        self._reach = max((rule.reach for rule in rules), default=0)

    def start(self, text: bytes, position: int, start: int) -> int:
        """Where the leftmost of them starts, at ``position`` or after it, and before ``start``; else that."""
        position = max(position, len(text) - self._reach)
        # Read backwards from the end, as the leftmost is found, the exact patterns would need an automaton
        # without end: at the end each of them may be anywhere.
        for begun, live in self._live:
            place = begun.start(text, position)
            while place < start and live.cover(text, place) is None:
                place = begun.start(text, place + 1)
            start = min(start, place)
        return start


def _live(rules: Sequence[Rule]) -> tuple[Matcher, Matcher]:
    """What may have begun where the text ends, and from a place on, what has."""
    return (
        any_of((rule.begun_source for rule in rules), _TEXT_END, _AUTOMATON),
        any_of((rule.live_source for rule in rules), memory=_AUTOMATON),
    )


def _bundles(rules: Sequence[Rule], most: int) -> Iterator[list[Rule]]:
    """``rules`` in order, at most so many at once, and not so large that their automaton could not be made."""
    some: list[Rule] = []
    for rule in rules:
        if some and (len(some) == most or sum(r.weight for r in some) + rule.weight > _LARGEST):
            yield some
            some = []
        some.append(rule)
    if some:
        yield some


def _automaton(words: Iterable[str]) -> ahocorasick_rs.BytesAhoCorasick:
    encoded = [word.encode() for word in words]
    implementation = ahocorasick_rs.Implementation.DFA
    return ahocorasick_rs.BytesAhoCorasick(encoded, implementation=implementation)
