"""The tree of targets that a call may be sent to: tried again, one after the other, or by weight."""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct, structs

from proxy.errors import ConfigError
from proxy.frozen import FrozenDict, freeze
from proxy.routing.faults import PASSING

#: What the choice of an upstream leaves as it is: how a call is answered, and the texts that guardrails approved.
FIXED: Final = frozenset({"input", "messages", "prompt", "stream", "stream_options", "suffix"})
_FAILING: Final = range(400, 600)
_NOTHING: Final = FrozenDict()


def check_statuses(statuses: frozenset[int], where: str) -> None:
    """Raise ``ConfigError`` for statuses after which there is nothing to try again."""
    if wrong := sorted(status for status in statuses if status not in _FAILING):
        raise ConfigError(
            f"{where} holds {wrong[0]}: write statuses of errors, 400 to 599; all others are passed on"
        )


def _check_time(seconds: float, where: str) -> None:
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ConfigError(f"{where} = {seconds!r}: write seconds, 0 or more")


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """How often one target is tried, and for what: ``attempts`` is tries in all.

    Again ``on`` these statuses, always when the call cannot have arrived, and with ``unanswered`` also when it
    may have arrived and nothing usable came back. Waits ``base`` seconds, twice as many each time up to
    ``most``, less a random part of up to a half; or what the upstream asks for (``retry-after``, up to a tenth
    more), and if that is more than ``patience`` seconds goes on to the next target at once.
    """

    attempts: int = 1
    on: frozenset[int] = PASSING
    unanswered: bool = False
    base: float = 0.5
    most: float = 8.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for numbers that cannot be meant."""
        if self.attempts < 1:
            raise ConfigError(
                f"retry: attempts = {self.attempts}: write 1 for one try, 2 for one more"
            )
        for name in ("base", "most", "patience"):
            _check_time(getattr(self, name), f"retry: {name}")
        check_statuses(self.on, "retry: on")


class Target(Struct, frozen=True):
    """One upstream, and how it is asked; ``body``, ``timeout`` and ``reply_headers`` as ``Choice`` has them."""

    upstream: str
    body: Mapping[str, Any] = _NOTHING
    timeout: float | None = None
    retry: Retry = Retry()
    reply_headers: Mapping[str, str] = _NOTHING

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for what no choice of an upstream may say."""
        if fixed := sorted(FIXED & set(self.body)):
            raise ConfigError(
                f"body sets {fixed[0]!r}, which is the same for every upstream: remove it"
            )
        if self.timeout is not None and not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise ConfigError(f"timeout = {self.timeout!r}: write seconds above zero, or remove it")
        structs.force_setattr(self, "body", freeze(self.body))
        structs.force_setattr(self, "reply_headers", freeze(self.reply_headers))


class Balance(Struct, frozen=True):
    """One of several ways by its weight; a weight of 0 is never chosen.

    With ``falls_back`` another one of them is chosen after a failure: when the call cannot have arrived, ``on`` these
    statuses, and with ``unanswered`` also when it may have arrived; without it the first choice is the only one.
    """

    ways: "tuple[tuple[float, Way], ...]"
    falls_back: bool = True
    on: frozenset[int] = PASSING
    unanswered: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for weights by which nothing could be chosen."""
        weights = [weight for weight, _ in self.ways]
        if not all(weight >= 0 and math.isfinite(weight) for weight in weights):
            raise ConfigError(f"weights {weights}: write numbers, 0 for a way that is not taken")
        if not any(weights):
            raise ConfigError("every weight is 0, so nothing could be chosen: give one of them 1")
        check_statuses(self.on, "balance: on")


class Fallback(Struct, frozen=True):
    """Several ways in their order; the next one when the last failed.

    Goes on when the call cannot have arrived, ``on`` these statuses, and with ``unanswered`` also when it may have
    arrived and nothing usable came back.
    """

    ways: "tuple[Way, ...]"
    on: frozenset[int] = PASSING
    unanswered: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a fallback among nothing."""
        if not self.ways:
            raise ConfigError("a fallback needs at least one way: name an upstream")
        check_statuses(self.on, "fallback: on")


Way: TypeAlias = Target | Balance | Fallback
