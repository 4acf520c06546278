"""What a running call was granted: what of it is kept, corrected or given back when it is asked about again or ends."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from plugins.rate_limit.replies import Outcome
from plugins.rate_limit.rules import Claim
from plugins.rate_limit.window import Correction, Demand, Taken

_PLACE: Final = "concurrent"


class Held(Struct, frozen=True):
    """A claim that was granted: what became of it, and the amounts it counts for with the cells they are in."""

    claim: Claim
    taken: Taken
    parts: tuple[tuple[int, int], ...]

    @property
    def amount(self) -> int:
        """What it counts for."""
        return sum(amount for _, amount in self.parts)

    def lack(self, claim: Claim) -> Demand | None:
        """What ``claim``, which is to take its place, demands beyond it."""
        more = claim.demand.amount - self.amount
        return replace(claim.demand, amount=more) if more > 0 else None

    def back(self, amount: int) -> Iterator[Correction]:
        """Give so much back, the latest first: out of a cell goes what was put there, and nobody else's."""
        if self.claim.limit.kind == _PLACE:
            yield Correction(self.claim.demand, 0, 0)
            return
        for cell, count in reversed(self.parts):
            if part := min(amount, count):
                yield Correction(self.claim.demand, cell, -part)
            amount -= part

    def less(self, amount: int) -> "Held":
        """What is left of it after that."""
        parts: list[tuple[int, int]] = []
        for cell, count in reversed(self.parts):
            part = min(amount, count)
            amount -= part
            parts += [(cell, count - part)] if count > part else []
        return replace(self, parts=tuple(reversed(parts)))


class Grant(Struct, frozen=True):
    """All claims of a call, and the tokens that were guessed for it."""

    held: Mapping[bytes, Held]
    prompt: int
    estimated: int

    def settled(self, used: int) -> list[Correction]:
        """When the call is over: places are left, and its tokens are those that were used."""
        found: list[Correction] = []
        for held in self.held.values():
            if held.claim.limit.kind == _PLACE:
                found += held.back(1)
            elif held.claim.limit.kind == "tokens" and used > self.estimated:
                found.append(Correction(held.claim.demand, 0, used - self.estimated))
            elif held.claim.limit.kind == "tokens":
                found += held.back(self.estimated - used)
        return found


class Change(Struct, frozen=True):
    """From what a call holds to what it demands: ``demands`` are still to be taken, ``back`` is given back then."""

    former: Mapping[bytes, Held]
    claims: Sequence[Claim]
    demands: Sequence[Demand]
    back: Sequence[Correction]

    def outcomes(self, taken: Iterable[Taken]) -> list[Outcome]:
        """What became of each claim, also of those that were held before."""
        if not self.former:
            return list(zip(self.claims, taken, strict=True))
        found = {demand.key: each for demand, each in zip(self.demands, taken, strict=True)}
        return [(claim, self._outcome(claim, found.get(claim.demand.key))) for claim in self.claims]

    def _outcome(self, claim: Claim, taken: Taken | None) -> Taken:
        if taken is None:
            return self.former[claim.demand.key].taken
        if taken.wait and claim.demand.amount > claim.limit.amount:
            return replace(taken, wait=math.inf)  # only the rest of it was demanded
        return taken

    def held(self, outcomes: Iterable[Outcome]) -> dict[bytes, Held]:
        """What the call holds once it is granted."""
        if not self.former:
            return {
                claim.demand.key: Held(claim, taken, ((taken.cell, claim.demand.amount),))
                for claim, taken in outcomes
            }
        demanded = {demand.key: demand.amount for demand in self.demands}
        found: dict[bytes, Held] = {}
        for claim, taken in outcomes:
            key = claim.demand.key
            before = self.former.get(key)
            parts = before.parts if before else ()
            if key in demanded:
                found[key] = Held(claim, taken, (*parts, (taken.cell, demanded[key])))
            elif before is not None:
                kept = before.less(max(0, before.amount - claim.demand.amount))
                found[key] = replace(kept, claim=claim)
        return found


def change(grant: Grant | None, claims: Sequence[Claim]) -> Change:
    """How ``claims`` take the place of what was granted; a claim that stays is not taken twice."""
    if grant is None:
        return Change({}, claims, [claim.demand for claim in claims], ())
    former = grant.held
    demands: list[Demand] = []
    back: list[Correction] = []
    for claim in claims:
        held = former.get(claim.demand.key)
        lack = held.lack(claim) if held else claim.demand
        if lack is not None:
            demands.append(lack)
        elif held and (spare := held.amount - claim.demand.amount):
            back += held.back(spare)
    wanted = {claim.demand.key for claim in claims}
    for key, held in former.items():
        back += held.back(held.amount) if key not in wanted else ()
    return Change(former, claims, demands, back)
