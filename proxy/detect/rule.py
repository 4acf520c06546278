"""A detector compiled: its patterns, and the search for what is decided."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import re2

from proxy.detect.detector import Detector
from proxy.detect.literals import leading, starts
from proxy.detect.matcher import Matcher, Spans, is_valid
from proxy.detect.prefix import full, proper, relaxed, unended, weight, width
from proxy.detect.syntax import Alt, Cat, Node, bounded, parse
from proxy.errors import ConfigError
from proxy.patterns import linear

_MEMORY: Final = 64 << 20  # bytes that one pattern's automaton may grow to; most stay far below
_LARGEST: Final = (
    40_000  # RE2 instructions; what is made from a pattern then stays below the memory
)
_SURE: Final = (
    20_000  # what is estimated below needs not be compiled to know that it is small enough
)
_WIDEST: Final = 4  # bytes that a character takes
_RETRIES: Final = 2  # further tries inside what a check refused, so that time stays linear


class Cursor(NamedTuple):
    """Where a rule's search stands, in bytes: ``position``, and the tries inside a refused match."""

    position: int = 0
    refused_to: int = 0
    tries: int = 0


class Rule:
    """The patterns of one detector, read and checked; compiled when a text first asks for them.

    Raises ``ConfigError`` for a detector that the engine cannot take: with the field, the reason and
    the nearest form that works.
    """

    def __init__(self, detector: Detector, index: int) -> None:
        self.detector, self.index, self.check = detector, index, detector.check
        _refuse_invalid(detector)
        context, core = (
            _read(detector, "context"),
            _read(detector, "opens" if detector.opens else "core"),
        )
        tail = Cat() if detector.opens else _read(detector, "tail")
        _refuse_empty(detector, core)
        whole = Cat((context, core, tail))
        self._parts, self._rest, self._whole = (context, core, tail), Cat((core, tail)), whole
        self.has_context = bool(detector.context)
        self.least_context = width(context)[0] if detector.context else 0
        # Of the context alone: a core that begins before its literal is complete would not be held.
        self.starts = starts(context if detector.context else whole)
        if detector.opens:
            self._read_closing(_read(detector, "closes"), _read(detector, "tail"))
        self.weight = weight(whole)
        if self.weight > _SURE:
            _refuse_large(detector, lambda: self.full)

    @property
    def near_source(self) -> str:
        """The pattern of what has to stand wherever there is a match."""
        return full(relaxed(self._whole))

    @property
    def live_source(self) -> str:
        """The pattern of the beginnings of matches that can go on."""
        return proper(self._whole)

    @property
    def begun_source(self) -> str:
        """The pattern of what has to stand wherever a match that can go on begins."""
        return proper(relaxed(self._whole, least=False))

    @property
    def condition(self) -> str:
        """The pattern of what holds wherever a match starts, or nothing."""
        return leading(self._whole)

    # Few rules are ever close to a match: what only these need is compiled when it is.

    @cached_property
    def full(self) -> Matcher:
        """The matches, with the core as a group."""
        context, core, tail = map(full, self._parts)
        return Matcher(f"(?:{context})({core})(?:{tail})")

    @cached_property
    def near(self) -> Matcher:
        """What has to stand wherever there is a match: asked first, for it is far cheaper."""
        return Matcher(self.near_source, _MEMORY)

    @cached_property
    def least(self) -> int:
        """Characters that a match takes at least."""
        return width(self._whole)[0]

    @cached_property
    def reach(self) -> int:
        """Bytes that a match takes at most."""
        return (width(self._whole)[1] or 0) * _WIDEST

    @cached_property
    def live(self) -> Matcher:
        """What the end of the text cuts off."""
        return Matcher(rf"(?:{self.live_source})\z", _MEMORY)

    @cached_property
    def core_live(self) -> Matcher:
        """A core that the end of the text cuts off, whatever stands before."""
        return Matcher(rf"(?:{proper(self._rest)})\z", _MEMORY)

    @cached_property
    def context_end(self) -> Matcher:
        """A context that ends where the text does."""
        return Matcher(rf"(?:{full(unended(self._parts[0]))})\z", _MEMORY)

    @cached_property
    def closer(self) -> Matcher:
        """What closes: with a group where that is part of the finding."""
        return Matcher("|".join(form.format(full(node)) for form, node in self._closing))

    @cached_property
    def closer_live(self) -> Matcher:
        """The beginning of what closes that the end of the text cuts off."""
        live = proper(Alt(tuple(node for _, node in self._closing)))
        return Matcher(rf"(?:{live})\z")

    def live_from(self, text: bytes, places: Iterable[int]) -> int:
        """The first of ``places`` where a match starts that the end cuts off; the end, without."""
        return next((place for place in places if self.live.cover(text, place)), len(text))

    def _read_closing(self, closes: Node, tail: Node) -> None:
        both = [("({})", closes), ("(?:{})", tail)]
        self._closing = [(form, node) for form, node in both if node != Cat()]
        if not self._closing or any(width(node)[0] == 0 for _, node in self._closing):
            raise ConfigError(
                f"{_name(self.detector)}: 'opens' needs 'closes' or 'tail' that match something"
            )
        self.closes_inside = closes != Cat()
        if sum(weight(node) for _, node in self._closing) > _SURE:
            _refuse_large(self.detector, lambda: self.closer)

    def first(self, text: bytes, position: int) -> Spans | None:
        """The first match that starts at ``position`` or after it, and its core."""
        near = self.near.search(text, position)
        return None if near is None else self.full.search(text, near[0][0])

    def near_at(self, text: bytes, places: Iterable[int]) -> Sequence[int]:
        """Those of ``places`` where a match may start, in order."""
        return self.near.begun(text, sorted(places), self.reach)

    def scan(
        self,
        text: bytes,
        cursor: Cursor,
        limit: int,
        places: Sequence[int] | None = None,
        skip: int = 0,
    ) -> tuple[list[tuple[int, int]], Cursor]:
        """The cores of matches that start before ``limit``, and where the search stands after them.

        ``places`` are all places where a match may start, in order, where these are known and few;
        before ``skip`` none starts that is there in full.
        """
        found: list[tuple[int, int]] = []
        while (spans := self._next(text, max(cursor.position, skip), places)) is not None:
            (first, end), (start, stop) = spans
            if first >= limit:
                break
            if self.check is not None and not self.check(text[start:stop].decode()):
                cursor = _refused(cursor, first, end)
                continue
            found.append((start, stop))
            cursor = Cursor(stop)
            if self.detector.opens:
                break
        return found, cursor

    def _next(self, text: bytes, position: int, places: Sequence[int] | None) -> Spans | None:
        if places is None:
            return self.full.search(text, position)
        for at in places[bisect_left(places, position) :]:
            near = self.near.begins(text, at, self.reach)
            if near and (spans := self.full.begin(text, at)) is not None:
                return spans
        return None

    def close(self, text: bytes, position: int, limit: int) -> int | None:
        """Where content ends that is open at ``position``, if that is decided before ``limit``."""
        spans = self.closer.search(text, position)
        if spans is None or spans[0][0] >= limit:
            return None
        inside = self.closes_inside and spans[1][1] >= 0
        return spans[1][1] if inside else spans[0][0]


def _refused(cursor: Cursor, start: int, end: int) -> Cursor:
    tries = cursor.tries + 1 if start < cursor.refused_to else 1
    to = max(cursor.refused_to, end)
    return Cursor(to, to) if tries > _RETRIES else Cursor(start + 1, to, tries)


def _name(detector: Detector) -> str:
    return f"detector {detector.kind!r}"


def _read(detector: Detector, field: str) -> Node:
    pattern: str = getattr(detector, field)
    if not pattern:
        return Cat()
    try:
        node = parse(pattern)
    except ConfigError as error:
        raise ConfigError(f"{_name(detector)}: {field}: {error}") from None
    if width(node)[1] is None:
        raise ConfigError(
            f"{_name(detector)}: {field}: {pattern!r} can match text of any length, which a stream could "
            f"never release; bound it, {bounded(pattern)!r}, or give 'opens' and 'closes'"
        )
    return node


def _refuse_invalid(detector: Detector) -> None:
    """Raise what RE2 has to say against the fields; asked about all at once, for it takes its time."""
    fields = ("context", "core", "opens", "closes", "tail")
    if is_valid("".join(f"(?:{getattr(detector, field)})" for field in fields)):
        return
    for field in fields:
        try:
            linear(getattr(detector, field))
        except ConfigError as error:
            raise ConfigError(f"{_name(detector)}: {field}: {error}") from None


def _refuse_empty(detector: Detector, core: Node) -> None:
    if width(core)[0] == 0:
        raise ConfigError(
            f"{_name(detector)}: {detector.opens or detector.core!r} can match nothing at all; "
            "write what must be there, '{1,200}' instead of '*'"
        )


def _refuse_large(detector: Detector, compiled: Callable[[], Matcher]) -> None:
    """Compile what may be too large, to know."""
    try:
        large = compiled().size > _LARGEST
    except re2.error:
        large = True
    if large:
        raise ConfigError(
            f"{_name(detector)}: its patterns together are too large once compiled; "
            "split it, or repeat less often"
        )
