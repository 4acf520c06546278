"""The next target of a tree, from the failures so far: no state, no clock, no chance that a test could not repeat."""

import math
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from proxy.model import Choice
from proxy.records import Failure
from proxy.routing.faults import CIRCUIT_OPEN, STATUS, UNANSWERED, UNSENT
from proxy.routing.ways import Balance, Fallback, Retry, Target, Way

_LAST_DOUBLING: Final = 32
#: How much longer than an upstream asks for, so that not all who were told the same come at once.
_LATER: Final = 0.1


def next_choice(
    way: Way, key: str, failures: tuple[Failure, ...], *, jitter: str | None = None
) -> Choice | None:
    """The next try of a call, or None when ``way`` has none left after these ``failures``.

    A pure function: what looks random is a hash of ``key`` (``call.id``; or what calls that belong together share)
    and of the place in the tree, and pauses vary with ``jitter``, which is ``key`` if it is not given.
    ``Choice.target`` is that place, as "0" or "1.0", and ``failures`` are told apart by it; one without a target
    counts for every target of its upstream. ``Choice.again_on`` and ``again_unanswered`` say exactly
    which failures of this try would lead to another one.
    """
    found = _Walk(key, key if jitter is None else jitter, failures).into(way, "", _Beyond())
    return found if isinstance(found, Choice) else None


class _Beyond(Struct, frozen=True):
    """What those around a try would go on for."""

    on: frozenset[int] = frozenset()
    unanswered: bool = False

    def and_also(self, way: Balance | Fallback | Retry) -> "_Beyond":
        return _Beyond(self.on | way.on, self.unanswered or way.unanswered)


class _Walk(Struct, frozen=True):
    """One call's way through a tree; a choice is the next try, a failure what a part of the tree ended with."""

    key: str
    jitter: str
    failures: tuple[Failure, ...]

    def into(self, way: Way, path: str, beyond: _Beyond) -> Choice | Failure:
        if isinstance(way, Target):
            return self._at(way, path or "0", beyond)
        *others, last = self._ordered(way, path)
        below = f"{path}." if path else ""
        for place, inner in others:
            found = self.into(inner, f"{below}{place}", beyond.and_also(way))
            if isinstance(found, Choice) or not _goes_on(way, found):
                return found
        return self.into(last[1], f"{below}{last[0]}", beyond)

    def _at(self, target: Target, path: str, beyond: _Beyond) -> Choice | Failure:
        tried = [failure for failure in self.failures if _is_of(failure, target, path)]
        after = 0.0
        if tried:
            pause = self._pause(target.retry, path, tried)
            if pause is None:
                # A breaker that opened between two tries says nothing of how the first one ended.
                told = [failure for failure in tried if failure.kind != CIRCUIT_OPEN]
                return told[-1] if told else tried[-1]
            after = pause
        if len(tried) + 1 < target.retry.attempts:
            beyond = beyond.and_also(target.retry)
        return Choice(
            upstream=target.upstream,
            target=path,
            body=target.body,
            after=after,
            timeout=target.timeout,
            again_on=beyond.on,
            again_unanswered=beyond.unanswered,
            reply_headers=target.reply_headers,
        )

    def _ordered(self, way: Balance | Fallback, path: str) -> list[tuple[int, Way]]:
        """The ways with their places, in the order in which this call takes them."""
        if isinstance(way, Fallback):
            return list(enumerate(way.ways))
        # The first of several clocks to ring, each as fast as its weight, is each in proportion to its weight; and
        # a weight that changes moves only the calls it must (Efraimidis and Spirakis 2006).
        rings = sorted(
            (-math.log(_chance(self.key, path, place)) / weight, place)
            for place, (weight, _) in enumerate(way.ways)
            if weight
        )
        return [(place, way.ways[place][1]) for _, place in rings][: None if way.falls_back else 1]

    def _pause(self, retry: Retry, path: str, tried: list[Failure]) -> float | None:
        """Seconds before the same target is tried again, or None: it is not."""
        last = tried[-1]
        if len(tried) >= retry.attempts or last.kind == CIRCUIT_OPEN or not _goes_on(retry, last):
            return None
        chance = _chance(self.jitter, path, len(tried))
        if last.retry_after is not None:
            asked = last.retry_after
            return asked * (1 + chance * _LATER) if asked <= retry.patience else None
        doubled = retry.base * 2.0 ** min(len(tried) - 1, _LAST_DOUBLING)
        return min(retry.most, doubled) * (1 - chance / 2)


def _is_of(failure: Failure, target: Target, path: str) -> bool:
    return failure.upstream == target.upstream and failure.target in ("", path)


def _goes_on(way: Balance | Fallback | Retry, failure: Failure) -> bool:
    if failure.kind == STATUS:
        return failure.status in way.on
    if failure.kind in UNANSWERED:
        return way.unanswered
    return failure.kind in UNSENT or failure.kind == CIRCUIT_OPEN


def _chance(key: str, path: str, number: int) -> float:
    """A number between 0 and 1, the same for the same place of the same key; never 0 itself."""
    text = f"{key}\0{path}\0{number}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(blake2b(text, digest_size=7).digest())
    return (drawn + 1) / (1 << 56)
