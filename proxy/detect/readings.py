"""The ways to read one text, as it is and folded, and what each finds."""

from collections.abc import Sequence
from functools import cached_property

from proxy.detect.detector import Detector
from proxy.detect.fold import Folded, fold
from proxy.detect.lane import Lane, Span
from proxy.detect.plan import Plan
from proxy.detect.rule import Rule
from proxy.detect.windows import Windows


class Selection:
    """The detectors that are asked together; what all streams of one kind share."""

    def __init__(self, detectors: Sequence[tuple[int, Detector]], rules: dict[int, Rule]) -> None:
        self._rules = [rules[index] for index, _ in detectors if index in rules]
        self._functions = [(detector, index) for index, detector in detectors if detector.find]
        self.together = Plan(self._rules)

    @cached_property
    def raw(self) -> Plan:
        """The rules that read texts as they are."""
        return Plan([rule for rule in self._rules if not rule.detector.fold])

    @cached_property
    def folded(self) -> Plan:
        """The rules that read folded texts."""
        return Plan([rule for rule in self._rules if rule.detector.fold])

    def windows(self) -> tuple[list[Windows], list[Windows]]:
        """New readers for the functions: of texts as they are, and folded."""
        made = [(Windows(detector, index), detector.fold) for detector, index in self._functions]
        return [reader for reader, folded in made if not folded], [
            reader for reader, folded in made if folded
        ]


class Readings:
    """The readers of one text. While it is ASCII, what is read is the same folded or not."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._raw, self._folded = selection.windows()
        self._together: Lane | None = Lane(selection.together)
        self._lanes = [self._together]
        self._length = 0

    def feed(self, text: str) -> list[Span]:
        """Read on; what is decided now, in no order."""
        start, self._length = self._length, self._length + len(text)
        if self._together is not None and text.isascii():
            return self._together.feed(text, None, self._length) + self._windows(text, start, None)
        folded = self._folded_on(text, start)
        spans = self._lanes[0].feed(text, None, self._length)
        spans += self._lanes[1].feed(folded.text, folded.offsets, self._length)
        return spans + self._windows(text, start, folded)

    def whole(self, text: str) -> list[Span]:
        """What is found in a text that is there at once, in no order."""
        self._length = len(text)
        folded = None
        if self._together is not None and text.isascii():
            self._together.read(text, None, self._length)
        else:
            folded = self._folded_on(text, 0)
            self._lanes[0].read(text, None, self._length)
            self._lanes[1].read(folded.text, folded.offsets, self._length)
        return self._windows(text, 0, folded) + self.finish()

    def _folded_on(self, text: str, start: int) -> Folded:
        """``text`` folded, with offsets in all that was read; from now on there are two lanes."""
        if self._together is not None:
            plans = self._selection.raw, self._selection.folded
            self._lanes = [self._together.narrowed(plan) for plan in plans]
            self._together = None
        plain, offsets = fold(text)
        return Folded(plain, [start + offset for offset in offsets])

    def _windows(self, text: str, start: int, folded: Folded | None) -> list[Span]:
        if not (self._raw or self._folded):
            return []
        raw = Folded(text, range(start, self._length))
        spans: list[Span] = []
        for readers, (plain, offsets) in ((self._raw, raw), (self._folded, folded or raw)):
            for reader in readers:
                spans += reader.feed(plain, offsets, self._length)
        return spans

    def finish(self) -> list[Span]:
        """The end of the text: what was not decided before."""
        return [span for reader in self._readers() for span in reader.finish()]

    def _readers(self) -> list[Lane | Windows]:
        return [*self._lanes, *self._raw, *self._folded]

    @property
    def hold(self) -> int:
        """Characters from the start of the text that are decided."""
        if self._together is not None and not (self._raw or self._folded):
            return self._together.hold
        return min(reader.hold for reader in self._readers())
