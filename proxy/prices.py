"""What a model's tokens cost: dated prices, found by globs, counted in whole nano-units of a currency."""

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from typing import Final

from msgspec import Struct

from proxy.errors import ConfigError
from proxy.patterns import Globs

#: Money is an integer everywhere: nano-units, 1e-9 of a currency, so that sums are exact.
NANO: Final = 10**9
MILLION: Final = 10**6
#: Beyond this many tokens a count is a mistake or an attack; what is counted stays far within 64 bits.
MOST_TOKENS: Final = 10**12
#: The same for money, in nano-units: nine million of a currency for one call.
MOST_MONEY: Final = 9 * 10**15
_HIGHEST: Final = Decimal(10**6)
_CURRENCY: Final = 3  # letters, ISO 4217
_STALE_DAYS: Final = 90


class PriceEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[prices]]``: what a million tokens of some models cost, from a day on."""

    models: tuple[str, ...]
    input: Decimal
    output: Decimal = Decimal(0)
    cached: Decimal | None = None
    currency: str = "USD"
    since: date | None = None
    most_output: int | None = None


class Price(Struct, frozen=True):
    """One entry ready to count with: nano-units for a million tokens; ``number`` is its place in the file."""

    number: int
    currency: str
    input: int
    cached: int
    output: int
    most_output: int | None = None

    def cost(self, prompt: int, completion: int, cached: int = 0) -> int:
        """Nano-units for these tokens, rounded up; ``cached`` are those of the prompt that were read before."""
        cached = min(cached, prompt)
        parts = (prompt - cached) * self.input + cached * self.cached + completion * self.output
        return min(-(-parts // MILLION), MOST_MONEY)

    def most(self, prompt: int, completion: int) -> int:
        """The most these tokens can cost, whatever part of the prompt the upstream had read before."""
        return self.cost(prompt, completion, prompt if self.cached > self.input else 0)


class Prices:
    """The price table; raises ``ConfigError`` for an entry that cannot be meant."""

    def __init__(
        self, entries: Iterable[PriceEntry] = (), *, where: str = "outgate.toml: prices"
    ) -> None:
        self.entries = tuple(entries)
        self._globs = tuple(Globs(entry.models) for entry in self.entries)
        self._prices = tuple(
            _price(number, entry, f"{where}[{number}]") for number, entry in enumerate(self.entries)
        )
        self._find = lru_cache(maxsize=1024)(self._look_up)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def price(self, model: str, today: date) -> Price | None:
        """The price of a model on a day: of the entries that fit, the latest ``since`` that is not after it.

        Of those with the same date one that names the model in full counts before one whose glob fits it,
        and then the one that stands first.
        """
        return self._find(model, today)

    def fitting(self, model: str) -> tuple[int, ...]:
        """The places of all entries that fit a model, whatever their dates."""
        return tuple(number for number, globs in enumerate(self._globs) if globs.match(model))

    def _look_up(self, model: str, today: date) -> Price | None:
        begun = [
            (entry.since or date.min, model in entry.models, -number)
            for number in self.fitting(model)
            if (entry := self.entries[number]).since is None or entry.since <= today
        ]
        return self._prices[-max(begun)[2]] if begun else None

    def state(self, number: int, today: date) -> str:
        """How an entry's date looks today: ``undated``, ``future``, ``stale`` (90 days) or ``current``."""
        since = self.entries[number].since
        if since is None:
            return "undated"
        if since > today:
            return "future"
        return "stale" if (today - since).days > _STALE_DAYS else "current"

    def overlaps(self) -> Iterator[tuple[int, int]]:
        """Pairs of entries of one date that fit one model equally well: the second never counts for it."""
        for second, entry in enumerate(self.entries):
            for first in range(second):
                earlier = self.entries[first]
                if earlier.since == entry.since and any(
                    meet(one, other) and _is_glob(one) == _is_glob(other)
                    for one in earlier.models
                    for other in entry.models
                ):
                    yield first, second


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def meet(one: str, other: str) -> bool:
    """Whether some name fits both globs."""

    @cache
    def rest(i: int, j: int) -> bool:
        if i == len(one) or j == len(other):
            return not (one[i:] + other[j:]).strip("*")
        if "*" in (one[i], other[j]):
            # A star takes nothing, or the next character of the other.
            return rest(i + 1, j) or rest(i, j + 1)
        return (one[i] == other[j] or "?" in (one[i], other[j])) and rest(i + 1, j + 1)

    return rest(0, 0)


def shown_money(nano: int) -> str:
    """Nano-units as people read money: two to nine digits after the point."""
    whole, rest = divmod(abs(nano), NANO)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{digits}"


def nano_units(amount: Decimal) -> int:
    """An amount of a currency in nano-units; raises ``ValueError`` when it is no such amount."""
    if not amount.is_finite() or amount < 0:
        raise ValueError("write an amount of zero or more")
    nano = amount * NANO
    if nano != nano.to_integral_value():
        raise ValueError("write at most nine digits after the point")
    return int(nano)


def _price(number: int, entry: PriceEntry, where: str) -> Price:
    if not entry.models or not all(entry.models):
        raise ConfigError(f'{where}.models is empty: name the models, e.g. models = ["gpt-4o*"]')
    if len(entry.currency) != _CURRENCY or not (
        entry.currency.isalpha() and entry.currency.isupper()
    ):
        raise ConfigError(f'{where}.currency = {entry.currency!r}: write three letters, e.g. "USD"')
    if entry.most_output is not None and not 0 < entry.most_output <= MOST_TOKENS:
        raise ConfigError(
            f"{where}.most_output = {entry.most_output}: write the most tokens the model answers with"
        )
    cached = entry.input if entry.cached is None else entry.cached
    amounts = {"input": entry.input, "cached": cached, "output": entry.output}
    nano = {name: _nano(amount, f"{where}.{name}") for name, amount in amounts.items()}
    return Price(number, entry.currency, most_output=entry.most_output, **nano)


def _nano(amount: Decimal, where: str) -> int:
    if amount.is_finite() and amount > _HIGHEST:
        raise ConfigError(f"{where} = {amount}: that is too much for a million tokens")
    try:
        return nano_units(amount)
    except ValueError as error:
        raise ConfigError(f"{where} = {amount}: {error}, for a million tokens") from None
