"""Texts that arrive in pieces: released as soon as nothing that comes can change what was found in them."""

from typing import NamedTuple

from proxy.detect.lane import Span
from proxy.detect.readings import Readings


class Piece(NamedTuple):
    """Released text: where it starts in the whole text, and the findings in it, all in characters.

    The offsets of ``spans`` count from the start of the whole text; none of them reaches over the
    piece's ends.
    """

    text: str
    start: int
    spans: tuple[Span, ...]


class Stream:
    """One text that arrives in pieces: one choice and field of a reply.

    For every way to cut a text, the released texts are the text, and their spans are what
    ``Engine.find`` gives for it. Not to be used by two threads at once.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._text = ""
        self._start = 0
        self._groups: list[
            list[Span]
        ] = []  # decided, not released; findings that overlap are one group
        self._ends: list[int] = []

    @property
    def held(self) -> int:
        """Characters that were fed and not released yet."""
        return len(self._text)

    def feed(self, text: str) -> list[Piece]:
        """Read on; what can be released now: one piece, or none."""
        if not text:
            return []
        self._text += text
        spans = self._readings.feed(text)
        if spans:
            self._add(spans)
        return self._release(self._readings.hold)

    def finish(self) -> list[Piece]:
        """The end of the text: the rest of it."""
        self._add(self._readings.finish())
        return self._release(self._start + len(self._text))

    def _add(self, spans: list[Span]) -> None:
        for span in sorted(spans):
            self._insert(span)

    def _insert(self, span: Span) -> None:
        place = len(self._groups)
        while place and self._groups[place - 1][0].start > span.start:
            place -= 1
        if place and self._ends[place - 1] > span.start:
            place -= 1
            self._groups[place].append(span)
            self._ends[place] = max(self._ends[place], span.end)
        else:
            self._groups.insert(place, [span])
            self._ends.insert(place, span.end)
        while (
            place + 1 < len(self._groups) and self._groups[place + 1][0].start < self._ends[place]
        ):
            self._groups[place] += self._groups.pop(place + 1)
            self._ends[place] = max(self._ends[place], self._ends.pop(place + 1))

    def _release(self, hold: int) -> list[Piece]:
        if not self._groups:
            return self._piece(hold, ())
        count = sum(end <= hold for end in self._ends)
        if count < len(self._groups):
            hold = min(hold, self._groups[count][0].start)
        spans = sorted(span for group in self._groups[:count] for span in group)
        del self._groups[:count], self._ends[:count]
        return self._piece(hold, tuple(spans))

    def _piece(self, end: int, spans: tuple[Span, ...]) -> list[Piece]:
        start, count = self._start, end - self._start
        if count <= 0:
            return []
        text, self._text = self._text[:count], self._text[count:]
        self._start = end
        return [Piece(text, start, spans)]
