"""All detectors compiled into one engine, for whole texts and streams alike."""

from collections.abc import Collection, Sequence
from typing import Final

from proxy.detect.detector import Detector
from proxy.detect.lane import Span
from proxy.detect.readings import Readings, Selection
from proxy.detect.rule import Rule
from proxy.detect.stream import Piece, Stream
from proxy.errors import ConfigError

__all__ = ["Engine", "Piece", "Span", "Stream"]
_SHORTEST_BOUND: Final = 1


class Engine:
    """Detectors compiled once, used by any number of threads and by processes forked later.

    Raises ``ConfigError`` for a detector that it cannot take, with the reason and the nearest form.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = tuple(detectors)
        self._rules: dict[int, Rule] = {}
        for index, detector in enumerate(self.detectors):
            _check(detector)
            if detector.find is None:
                self._rules[index] = Rule(detector, index)
        self._selections: dict[frozenset[int], Selection] = {}
        self._all = self._select(frozenset(range(len(self.detectors))))

    def find(self, text: str, active: Collection[int] | None = None) -> list[Span]:
        """What ``active`` detectors (indices; all, when None) find in a whole text, sorted.

        The findings of one detector never overlap, the leftmost counts; those of two may.
        """
        readings = Readings(self._selection(active))
        return sorted(readings.whole(text))

    def stream(self, active: Collection[int] | None = None) -> Stream:
        """A new stream in which ``active`` detectors (indices; all, when None) find."""
        return Stream(Readings(self._selection(active)))

    def _selection(self, active: Collection[int] | None) -> Selection:
        return self._all if active is None else self._select(frozenset(active))

    def _select(self, active: frozenset[int]) -> Selection:
        # Two threads may both make one; either is right.
        known = self._selections.get(active)
        if known is None:
            chosen = [(index, self.detectors[index]) for index in sorted(active)]
            known = self._selections.setdefault(active, Selection(chosen, self._rules))
        return known


def _check(detector: Detector) -> None:
    ways = [bool(detector.core), bool(detector.opens), detector.find is not None]
    name = f"detector {detector.kind!r}"
    if sum(ways) != 1:
        raise ConfigError(f"{name}: say what it finds in one way: 'core', 'opens' or 'find'")
    if detector.find is not None and detector.window < _SHORTEST_BOUND:
        raise ConfigError(
            f"{name}: 'find' needs 'window', the characters that a finding needs at most"
        )
    if detector.find is not None and (detector.context or detector.tail):
        raise ConfigError(
            f"{name}: 'context' and 'tail' go with patterns; let 'find' look at them itself"
        )
    if detector.closes and not detector.opens:
        raise ConfigError(f"{name}: 'closes' goes with 'opens'")
    if detector.opens and detector.most < _SHORTEST_BOUND:
        raise ConfigError(f"{name}: 'most' must be at least 1")
