"""One budget as the operator writes it, and the purses that a call takes from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from plugins.budget.periods import Every, Period, name_of, period, zone
from proxy import ConfigError, Globs, nano_units, shown_money

Per = Literal["key", "owner", "team", "model", "all"]
TOKENS = "tokens"
_HIGHEST = 10**18  # nano-units or tokens; sums stay far within 64 bits
_LONGEST = 128  # characters of a name that callers can choose


@dataclass(frozen=True)
class BudgetEntry:
    """``budgets = [{ … }]``: either ``money`` or ``tokens`` for each ``per`` that ``match`` fits, ``every`` period."""

    name: str
    per: Per = "key"
    match: tuple[str, ...] = ("*",)
    money: Decimal | None = None
    tokens: int | None = None
    currency: str = "USD"
    every: Every = "month"
    timezone: str = "UTC"


class Who(Struct, frozen=True):
    """Whose call it is: the key's id (or the caller's name), its owner and team, and all groups it is in."""

    key: str
    owner: str
    team: str
    groups: tuple[str, ...]

    @classmethod
    def of(cls, name: str, groups: Iterable[str], metadata: Mapping[str, str]) -> "Who":
        """By what the principal says; a caller without an owner owns itself."""
        key, owner = metadata.get("key") or name, metadata.get("owner") or name
        return _who(key, owner, metadata.get("team", ""), tuple(groups))


@lru_cache(1024)
def _who(key: str, owner: str, team: str, groups: tuple[str, ...]) -> Who:
    every = tuple(dict.fromkeys(map(clean, (team, *groups) if team else groups)))
    return Who(clean(key), clean(owner), every[0] if every else "", every)


@dataclass(frozen=True, slots=True)
class Rule:
    """A budget, ready to be asked; ``cap`` is in tokens or in nano-units of ``unit``."""

    name: str
    per: Per
    globs: Globs
    unit: str
    cap: int
    every: Every
    zone: ZoneInfo

    def subjects(self, who: Who, model: str) -> tuple[str, ...]:
        """Who has a purse of this budget, of all that the call belongs to."""
        match self.per:
            case "key":
                found: tuple[str, ...] = (who.key,)
            case "owner":
                found = (who.owner,)
            case "team":
                found = who.groups
            case "model":
                found = (model,)
            case "all":
                return ("all",)
        return found if self.globs.everything else tuple(filter(self.globs.match, found))

    def period_name(self, now: datetime) -> str:
        """The name of the period that holds ``now``."""
        return name_of(self.every, now.astimezone(self.zone))

    def period(self, now: datetime) -> Period:
        """The period that holds ``now``, in the budget's time zone."""
        return period(self.every, now.astimezone(self.zone))

    def shown(self, amount: int) -> str:
        """An amount of this budget for people to read."""
        return f"{amount} tokens" if self.unit == TOKENS else f"{shown_money(amount)} {self.unit}"


def compiled(entries: Iterable[BudgetEntry]) -> tuple[Rule, ...]:
    """The budgets, checked; raises ``ConfigError``."""
    rules: dict[str, Rule] = {}
    for number, entry in enumerate(entries):
        where = f"budgets[{number}]"
        if not entry.name.strip():
            raise ConfigError(f'{where}: a budget needs a name, e.g. name = "team-month"')
        if entry.name in rules:
            raise ConfigError(
                f"{where}: the name {entry.name!r} is taken, and a name is what spending is kept under"
            )
        rules[entry.name] = _rule(entry, f"{where} ({entry.name!r})")
    return tuple(rules.values())


def clean(text: str) -> str:
    """A name as every database can keep it."""
    if len(text) <= _LONGEST and "\0" not in text:
        return text
    return text[:_LONGEST].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _rule(entry: BudgetEntry, where: str) -> Rule:
    if (entry.money is None) == (entry.tokens is None):
        raise ConfigError(
            f"{where}: write either money = 500.0 or tokens = 1000000, one of the two"
        )
    if not entry.match or not all(entry.match):
        raise ConfigError(f"{where}: match holds nothing to fit: name some, or remove it")
    if entry.per == "all" and entry.match != ("*",):
        raise ConfigError(f'{where}: per = "all" is one purse for everybody: remove match')
    try:
        cap = entry.tokens if entry.money is None else nano_units(entry.money)
    except ValueError as error:
        raise ConfigError(f"{where}: money = {entry.money}: {error}") from None
    if cap is None or not 0 <= cap <= _HIGHEST:
        raise ConfigError(f"{where}: write an amount from 0 to {_HIGHEST} (money: a billion)")
    try:
        found = zone(entry.timezone)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    unit = TOKENS if entry.money is None else entry.currency
    return Rule(entry.name, entry.per, Globs(entry.match), unit, cap, entry.every, found)
