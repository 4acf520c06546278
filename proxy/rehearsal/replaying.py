"""Runs calls that are over through a candidate, and tells whose verdict changes."""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from proxy.model import Call
from proxy.rehearsal.decision import Decision, Judged, differences, judged
from proxy.rehearsal.judging import Judge
from proxy.rehearsal.samples import Sample, Skipped


class Change(Struct, frozen=True, kw_only=True):
    """A call that would be judged otherwise: in what, and both decisions."""

    id: str
    time: str
    endpoint: str
    principal: str
    model: str | None
    differs: tuple[str, ...]
    before: Decision
    after: Decision


class Replay:
    """Judges samples by ``candidate``, and by ``current`` where there is one; else the record is what counts.

    ``only`` are the aspects that count as a change. Counts what was judged and what could not be, and why.
    """

    def __init__(self, candidate: Judge, current: Judge | None, only: Iterable[str]) -> None:
        self._candidate, self._current = candidate, current
        self._only = frozenset(only)
        self.judged = 0
        self.skipped: Counter[str] = Counter()

    @property
    def left_out(self) -> set[str]:
        """Plugins that keep state and were not asked."""
        judges = filter(None, (self._candidate, self._current))
        return {name for judge in judges for name in judge.candidate.left_out}

    def changes(self, samples: Iterable[Sample | Skipped]) -> Iterator[Change]:
        """The calls that would be judged otherwise, in the order in which they come."""
        for sample in samples:
            if isinstance(sample, Skipped):
                self.skipped[sample.why] += 1
                continue
            change = self._change(sample)
            self.judged += 1
            if change is not None:
                yield change

    def _change(self, sample: Sample) -> Change | None:
        as_sent = self._current is None
        before = sample.recorded
        if self._current is not None:
            before = _decided(self._current, sample, as_sent=False)
        after = _decided(self._candidate, sample, as_sent=as_sent)
        found = differences(before, after)
        differs = tuple(aspect for aspect in found if aspect in self._only)
        if not differs:
            return None
        call = sample.call
        return Change(
            id=call.id,
            time=sample.time,
            endpoint=call.endpoint,
            principal=call.principal.name,
            model=call.model,
            differs=differs,
            before=before.decision,
            after=after.decision,
        )


def _decided(judge: Judge, sample: Sample, *, as_sent: bool) -> Judged:
    judgement = judge.request(_known(judge, sample.call))
    if sample.reply is not None:
        judgement = judge.reply(judgement, sample.status, sample.reply)
    return judged(judgement, as_sent=as_sent)


def _known(judge: Judge, call: Call) -> Call:
    return call.replace(principal=judge.principal(call.principal))
