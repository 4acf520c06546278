"""Rules that read the same text, arranged so that a text is not searched for what cannot be there."""

from collections.abc import Sequence
from typing import Final

import ahocorasick_rs

from proxy.detect.matcher import Matcher, any_of
from proxy.detect.rule import Rule

_AUTOMATON: Final = 32 << 20  # bytes for the automaton that all rules share
_TEXT_END: Final = r"\z"


class Plan:
    """The rules of one way to read a text (as it is, or folded).

    Rules that start with a literal are looked at only where it stands; the others share one automaton
    that tells whether any of them matches, and one that tells whether any could still match.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = {rule.index: rule for rule in rules}
        self.most = {rule.index: rule.detector.most for rule in rules if rule.detector.opens}
        self.always = tuple(rule for rule in rules if not rule.starts)
        self.with_context = tuple(rule for rule in self.always if rule.has_context)
        self._gate = any_of((rule.whole_source for rule in self.always), memory=_AUTOMATON)
        self._plain_live = self._live(context=False)
        self._context_live = self._live(context=True)
        literals = sorted({word for rule in rules for word in rule.starts})
        self._by_literal = [[rule for rule in rules if word in rule.starts] for word in literals]
        encoded = [word.encode() for word in literals]
        self._literals = ahocorasick_rs.BytesAhoCorasick(encoded) if encoded else None

    def _live(self, *, context: bool) -> Matcher | None:
        rules = [rule for rule in self.rules.values() if rule.has_context == context]
        open_starts = [rule.live_source for rule in rules if not rule.starts]
        literals = [source for rule in rules for source in rule.start_sources]
        return any_of([*open_starts, *literals], _TEXT_END, _AUTOMATON)

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

    def limits(self, text: bytes, plain: int, context: int) -> tuple[int, int]:
        """Where the leftmost match starts that the end cuts off, of rules without and with a context.

        At the end itself, when nothing is open; searched from ``plain`` and ``context`` on.
        """
        size = len(text)
        return (
            size if self._plain_live is None else self._plain_live.start(text, plain),
            size if self._context_live is None else self._context_live.start(text, context),
        )

    def hit(self, text: bytes, start: int) -> bool:
        """Whether any of the rules that start without a literal matches at or after ``start``."""
        return self._gate is not None and self._gate.search(text, start) is not None
