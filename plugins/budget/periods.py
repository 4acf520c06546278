"""The stretches of time that budgets are for: a day, a month, or all of it, in the operator's time zone."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from proxy import ConfigError

Every = Literal["day", "month", "lifetime"]


@dataclass(frozen=True, slots=True)
class Period:
    """One such stretch: ``name`` is its purse's, ``ends`` when the next one begins (None: never)."""

    name: str
    ends: datetime | None


def name_of(every: Every, moment: datetime) -> str:
    """The name of the period that holds ``moment``, which is in the budget's time zone.

    Decided once for each call, when it reserves: whatever the clock does until it settles, the same purse pays.
    """
    if every == "lifetime":
        return every
    month = f"{moment.year:04}-{moment.month:02}"
    return month if every == "month" else f"{month}-{moment.day:02}"


def period(every: Every, moment: datetime) -> Period:
    """The whole period, with its end."""
    name = name_of(every, moment)
    if every == "lifetime":
        return Period(name, None)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if every == "day":
        return Period(name, midnight + timedelta(days=1))
    # Four days after the 28th is always the next month.
    return Period(name, (midnight.replace(day=28) + timedelta(days=4)).replace(day=1))


def zone(name: str) -> ZoneInfo:
    """A time zone by its name; raises ``ConfigError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(name, available_timezones(), n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ' Write for example "Europe/Berlin".'
        raise ConfigError(f"timezone = {name!r}: there is no such time zone here.{meant}") from None
