"""Limits in the words of OpenAI: headers of an answer, and the refusal of a call that is over one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from plugins.rate_limit.rules import Claim
from plugins.rate_limit.window import Taken
from proxy import Deny

Outcome: TypeAlias = tuple[Claim, Taken]
_KINDS: Final = ("requests", "tokens")


def headers(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """``x-ratelimit-*`` of the tightest limit of requests, and of tokens."""
    tightest: dict[str, tuple[int, Claim, Taken]] = {}
    for claim, taken in outcomes:
        kind, left = claim.limit.kind, max(0, claim.limit.amount - taken.used)
        if kind not in tightest or left < tightest[kind][0]:
            tightest[kind] = left, claim, taken
    found: dict[str, str] = {}
    for name in _KINDS:
        if name in tightest:
            left, claim, taken = tightest[name]
            found[f"x-ratelimit-limit-{name}"] = str(claim.limit.amount)
            found[f"x-ratelimit-remaining-{name}"] = str(left)
            found[f"x-ratelimit-reset-{name}"] = duration(taken.reset)
    return found


def refusal(outcomes: Sequence[Outcome]) -> Deny | None:
    """The 429 of the limit that stays exceeded longest, or None when all fit."""
    if not any(taken.wait for _, taken in outcomes):
        return None
    claim, taken = max(outcomes, key=lambda outcome: outcome[1].wait)
    kind = "tokens" if claim.limit.kind == "tokens" else "requests"
    return Deny(
        _message(claim, taken.wait),
        code="rate_limit_exceeded",
        status=429,
        type=kind,
        headers={**headers(outcomes), **_retry(taken.wait)},
    )


def duration(seconds: float) -> str:
    """``120ms``, ``1s`` or ``6m0s``, never less than the time it takes."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _retry(wait: float) -> Mapping[str, str]:
    """When another try can help; nothing where none ever will."""
    if math.isinf(wait):
        return {}
    return {
        "retry-after": str(max(1, math.ceil(wait))),
        "retry-after-ms": str(max(1, math.ceil(wait * 1000))),
    }


def _message(claim: Claim, wait: float) -> str:
    if math.isinf(wait):
        return (
            f"Request too large: it may use {claim.demand.amount} tokens, and the limit is {claim}."
            " Ask for fewer (max_tokens, n), or shorten it."
        )
    if claim.limit.kind == "concurrent":
        return f"Too many calls at once: the limit is {claim}. Try again when one has ended."
    return f"Rate limit reached: {claim}. Try again in {duration(wait)}."
