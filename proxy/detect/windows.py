"""Detectors that are functions: asked about pieces of the text that do not depend on how it arrived."""

from collections.abc import Iterator, Sequence

from proxy.detect.detector import Detector
from proxy.detect.lane import Span


class Windows:
    """One function detector over one stream.

    The text is divided into blocks of ``window`` characters, counted from its start. The function sees
    each block with one block of context on both sides, and its findings that start in the block count.
    So the same text gives the same findings, however it was cut, whatever the function does.
    """

    def __init__(self, detector: Detector, index: int) -> None:
        assert detector.find is not None  # noqa: S101 - the engine chose this class by it
        self._find, self._check, self._size, self._index = (
            detector.find,
            detector.check,
            detector.window,
            index,
        )
        self._text = ""  # from one block before the undecided one
        self._offsets: list[int] = []
        self._before = 0  # characters of context before the undecided block
        self._last = 0
        self._source = 0
        self.hold = 0  # characters of the source that are decided

    def feed(self, text: str, offsets: Sequence[int], length: int) -> list[Span]:
        """Read on, as ``Lane.feed`` does."""
        self._text += text
        self._offsets += offsets
        self._source = length
        spans: list[Span] = []
        while len(self._text) >= self._before + 2 * self._size:
            spans += self._block()
        self.hold = self._source_at(self._before)
        return spans

    def finish(self) -> list[Span]:
        """The end of the text: everything is decided."""
        spans: list[Span] = []
        while len(self._text) > self._before:
            spans += self._block()
        self.hold = self._source
        return spans

    def _block(self) -> list[Span]:
        spans = list(self._found(self._text[: self._before + 2 * self._size]))
        self._text = self._text[self._before :]
        del self._offsets[: self._before]
        self._before = min(self._size, len(self._text))
        return spans

    def _found(self, text: str) -> Iterator[Span]:
        for start, end in sorted(self._find(text)):
            first = self._before <= start < self._before + self._size
            if not (first and start < end <= len(text)):
                continue
            if self._check is not None and not self._check(text[start:end]):
                continue
            source, stop = max(self._offsets[start], self._last), self._offsets[end - 1] + 1
            if source < stop:
                self._last = stop
                yield Span(source, stop, self._index)

    def _source_at(self, place: int) -> int:
        return self._offsets[place] if place < len(self._offsets) else self._source
