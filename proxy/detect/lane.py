"""One way to read a stream (as it is, or folded): what is decided, and from where on nothing is yet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Final, NamedTuple, TypeAlias

from proxy.detect.plan import Plan
from proxy.detect.rule import Cursor, Rule

_KEPT: Final = 8  # bytes before the undecided text, for word boundaries
_FEW: Final = 2  # places that are looked at one by one, and one more
_APART: Final = 256  # for so many bytes; where there are more, one search of the text is cheaper
_START: Final = Cursor()
_TRIM: Final = 256  # bytes that may lie about before they are dropped


_Places: TypeAlias = dict[Rule, Sequence[int] | None]


class Span(NamedTuple):
    """What was found: ``start`` and ``end`` in characters of the text, and the detector's index."""

    start: int
    end: int
    detector: int


class _Open(NamedTuple):
    """Content that was opened: its start in characters of the source, and what is searched next."""

    source: int
    position: int


class Lane:
    """The state of one stream in one reading; offsets are bytes of ``_text`` unless said otherwise.

    Every match that starts before the leftmost place where one could still be going on is decided:
    no continuation changes it. Context flows: a match with a context holds back its core only.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._text = b""
        self._offsets: list[int] | None = (
            None  # of characters in the source; None while they are equal
        )
        self._first = 0  # the index of the text's first character
        self._mark = (0, 0)
        self._source = 0  # characters of the source so far
        self._plain = self._context = 0  # what starts before is decided
        self._cursors: dict[int, Cursor] = {}
        self._open: dict[int, _Open] = {}
        self._cores: dict[int, int] = {}  # before these, no core can begin any more
        self._last: dict[
            int, int
        ] = {}  # where a rule's last finding ends, in characters of the source
        self.hold = 0  # characters of the source that are decided

    def feed(self, text: str, offsets: Sequence[int] | None, length: int) -> list[Span]:
        """Read on: ``text`` with the place in the source of each character (None: as they come).

        ``length`` is the number of characters of the source up to here.
        """
        self.read(text, offsets, length)
        wanted = self._plan.wanted(self._text, min(self._plain, self._context))
        plain, context = self._limits(wanted)
        candidates = self._candidates(wanted)
        spans = [*self._decide(candidates, plain, context)] if candidates else []
        hold = plain
        if context < len(self._text):
            hold = min(hold, self._undecided(candidates, context), self._core(wanted, context))
        self.hold = length if hold == len(self._text) else self._source_at(hold)
        if self._open:
            self.hold = min(self.hold, *(content.source for content in self._open.values()))
        self._plain, self._context = plain, context
        if min(plain, context) > _TRIM:
            self._trim()
        return spans

    def _limits(self, wanted: Mapping[Rule, list[int]]) -> tuple[int, int]:
        """What is decided for rules without and with a context: matches that start before."""
        plain, context = self._plan.limits(self._text, self._plain, self._context)
        for rule, places in wanted.items():
            bound = self._context if rule.has_context else self._plain
            place = rule.live_from(self._text, sorted(at for at in places if at >= bound))
            if rule.has_context:
                context = min(context, place)
            else:
                plain = min(plain, place)
        return plain, context

    def narrowed(self, plan: Plan) -> "Lane":
        """This lane, read on for the rules of ``plan`` alone; while all was ASCII."""
        lane = copy(self)
        lane.keep(plan)
        return lane

    def keep(self, plan: Plan) -> None:
        """Read on for the rules of ``plan`` alone, sharing nothing with the lane this was copied from."""
        self._plan = plan
        self._cursors, self._cores, self._last = {**self._cursors}, {**self._cores}, {**self._last}
        self._open = {index: at for index, at in self._open.items() if index in plan.rules}

    def finish(self) -> list[Span]:
        """The end of the text: everything is decided."""
        wanted = self._plan.wanted(self._text, min(self._plain, self._context))
        end = len(self._text) + 1
        spans = [*self._decide(self._candidates(wanted), end, end)]
        for index, content in self._open.items():
            spans += self._finding(index, content.source, self._source)
        self._open.clear()
        self.hold = self._source
        return spans

    def read(self, text: str, offsets: Sequence[int] | None, length: int) -> None:
        """Read on, as ``feed`` does, and decide nothing yet."""
        if offsets is not None and self._offsets is None:
            known = len(self._text.decode())
            self._offsets = [*range(self._source - known, self._source)]
        if self._offsets is not None:
            self._offsets += range(self._source, length) if offsets is None else offsets
        self._text += text.encode()
        self._source = length

    def _candidates(self, wanted: Mapping[Rule, list[int]]) -> _Places:
        """The rules of which a match may stand in what is not decided, and where, if that is known."""
        start = min(self._plain, self._context)
        most = _FEW + (len(self._text) - start) // _APART
        rules: _Places = self._plan.promising(self._text, wanted, most)
        rules |= dict.fromkeys(self._plan.standing(self._text, start))
        for index in self._open:
            rules.setdefault(self._plan.rules[index], None)
        return rules

    def _decide(self, rules: _Places, plain: int, context: int) -> Iterator[Span]:
        for rule, places in rules.items():
            start, limit = (self._context, context) if rule.has_context else (self._plain, plain)
            cursor = self._cursors.get(rule.index, _START)
            if cursor.position < start:
                cursor = Cursor(start, cursor.refused_to, cursor.tries)
            skip = 0
            if places is None and rule.index not in self._open:
                skip = rule.near.start(self._text, cursor.position)
                if skip == len(self._text):
                    continue  # by far the most of them
            if rule.detector.opens:
                yield from self._content(rule, cursor, limit, places)
                continue
            found, self._cursors[rule.index] = rule.scan(self._text, cursor, limit, places, skip)
            for begin, end in found:
                yield from self._finding(rule.index, self._source_at(begin), self._source_to(end))

    def _content(
        self, rule: Rule, cursor: Cursor, limit: int, places: Sequence[int] | None
    ) -> Iterator[Span]:
        """Findings of any length: opened, and closed or not yet."""
        while True:
            if rule.index not in self._open:
                found, cursor = rule.scan(self._text, cursor, limit, places)
                if not found:
                    break
                self._open[rule.index] = _Open(self._source_at(found[0][0]), found[0][1])
            source, position = self._open[rule.index]
            whole = limit > len(self._text)
            undecided = limit if whole else rule.closer_live.start(self._text, position)
            end = rule.close(self._text, position, undecided)
            if end is None:
                yield from self._too_long(rule, source, undecided)
                break
            del self._open[rule.index]
            cursor = Cursor(end)
            yield from self._finding(rule.index, source, self._source_to(end))
        self._cursors[rule.index] = cursor

    def _too_long(self, rule: Rule, source: int, position: int) -> Iterator[Span]:
        """Past the bound, open content counts as found, piece by piece."""
        position = min(position, len(self._text))
        most = rule.detector.most
        full = (self._source_at(position) - source) // most * most
        yield from self._finding(rule.index, source, source + full)
        self._open[rule.index] = _Open(source + full, position)

    def _finding(self, index: int, start: int, end: int) -> Iterator[Span]:
        # Two findings in what one character stands for are one.
        start = max(start, self._last.get(index, 0))
        most = self._plan.most.get(index, end)
        while start < end:
            stop = min(end, start + most)
            yield Span(start, stop, index)
            self._last[index] = start = stop

    def _undecided(self, rules: Iterable[Rule], context: int) -> int:
        """Where the first core begins of a match that is there, but not decided for want of its turn."""
        hold = size = len(self._text)
        for rule in rules:
            if rule.has_context and context < size and rule.index not in self._open:
                spans = rule.first(
                    self._text, max(context, self._cursors.get(rule.index, _START).position)
                )
                hold = hold if spans is None else min(hold, spans[1][0])
        return hold

    def _core(self, wanted: Iterable[Rule], context: int) -> int:
        """Where the first core begins that the end of the text cuts off, after a context."""
        hold = size = len(self._text)
        for rule in (*wanted, *self._plan.with_context):
            if rule.has_context:
                start = max(context + rule.least_context, self._cores.get(rule.index, 0))
                begin = rule.core_live.start(self._text, start) if start < size else size
                while begin < size and not self._after_context(rule, context, begin):
                    begin = rule.core_live.start(self._text, begin + 1)
                self._cores[rule.index] = begin
                hold = min(hold, begin)
        return hold

    def _after_context(self, rule: Rule, context: int, core: int) -> bool:
        start = max(context, self._cursors.get(rule.index, _START).position)
        return start < core and rule.context_end.search(self._text[:core], start) is not None

    def _source_at(self, place: int) -> int:
        char = self._char(place)
        if self._offsets is None:
            return char
        index = char - self._first
        return self._offsets[index] if index < len(self._offsets) else self._source

    def _source_to(self, place: int) -> int:
        char = self._char(place)
        return char if self._offsets is None else self._offsets[char - self._first - 1] + 1

    def _char(self, place: int) -> int:
        """The index of the character at a byte; counted on from the place asked for before."""
        before, chars = self._mark if self._mark[0] <= place else (0, 0)
        chars += len(self._text[before:place].decode())
        self._mark = (place, chars)
        return self._first + chars

    def _trim(self) -> None:
        drop = min(self._plain, self._context, *(o.position for o in self._open.values())) - _KEPT
        if drop <= 0:
            return
        while self._text[drop] & 0xC0 == 0x80:  # noqa: PLR2004 - a byte inside a character
            drop -= 1
        chars = len(self._text[:drop].decode())
        if self._offsets is not None:
            del self._offsets[:chars]
        self._text = self._text[drop:]
        self._first += chars
        self._mark = (0, 0)
        self._plain, self._context = self._plain - drop, self._context - drop
        self._cores = {rule: at - drop for rule, at in self._cores.items() if at > drop}
        self._open = {rule: _Open(o.source, o.position - drop) for rule, o in self._open.items()}
        self._cursors = {
            rule: Cursor(c.position - drop, c.refused_to - drop, c.tries)
            for rule, c in self._cursors.items()
            if c.position > drop or c.refused_to > drop
        }
