"""What is written into the ledger and the usage book: plain values, known to plugins too."""

import time
from typing import Final, TypeAlias

from msgspec import Struct

#: What names a purse: its budget, subject, period and unit.
Purse: TypeAlias = tuple[str, str, str, str]
HOUR: Final = 3600


class Charge(Struct, frozen=True, order=True):
    """What one call takes from one purse: at most ``amount`` of ``cap``.

    A purse is the budget's for one subject (a key, a team, …) in one period. One that is named after its day or
    month (``2026-11-22``, ``2026-11``) is removed long after that is over, any other stays. ``unit`` is ``tokens``,
    or a currency; money is in nano-units.
    """

    budget: str
    subject: str
    period: str
    unit: str
    amount: int
    cap: int

    def purse(self) -> Purse:
        """What it takes from."""
        return self.budget, self.subject, self.period, self.unit


class Shortage(Struct, frozen=True):
    """The first purse that could not pay, and what is left in it."""

    charge: Charge
    left: int


class Balance(Struct, frozen=True):
    """What a purse has paid, and what it holds back for calls under way."""

    settled: int = 0
    reserved: int = 0


class Labels(Struct, frozen=True):
    """Whose call it is, and of what; a label that is not known is empty."""

    key: str = ""
    owner: str = ""
    team: str = ""
    model: str = ""
    upstream: str = ""
    endpoint: str = ""
    currency: str = ""


class Counts(Struct, frozen=True):
    """What is added to an hour: calls by their end, tokens, and money in nano-units of the currency.

    ``retries`` are calls that an SDK sent again, ``cached`` those that were answered without an upstream,
    ``estimated`` those whose upstream told no usage, ``abandoned`` those whose process died before they were settled.
    """

    calls: int = 0
    refused: int = 0
    failed: int = 0
    retries: int = 0
    cached: int = 0
    estimated: int = 0
    abandoned: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0


class Used(Struct, frozen=True):
    """One addition to the usage book: to the hour that begins at ``hour``, in seconds since 1970."""

    hour: int
    labels: Labels
    counts: Counts


def this_hour() -> int:
    """Seconds since 1970 at which the present hour began (UTC)."""
    return int(time.time()) // HOUR * HOUR
