"""Budgets in money and tokens, exact across processes, and the book of who used what."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from plugins.budget.bounds import Bounds, Tokens, failed
from plugins.budget.page import install
from plugins.budget.rules import TOKENS, BudgetEntry, Rule, Who, clean, compiled
from proxy import (
    Call,
    Charge,
    ConfigError,
    Counts,
    Deny,
    Labels,
    Price,
    Prices,
    Record,
    Store,
    hookimpl,
    only,
)

if TYPE_CHECKING:
    from flask import Flask


class _Open(Struct, frozen=True):
    """A call under way: what it reserved, and at which price; both are decided once."""

    who: Who
    most: Tokens
    price: Price | None
    charges: tuple[Charge, ...] = ()
    unsure: bool = False


@dataclass(frozen=True)
class Budget:
    """``budgets`` says who may spend what; without any, usage is only kept.

    What a call may cost at most is reserved before it is sent: its bytes as tokens (``bytes_per_token``,
    ``template_tokens`` and ``attachment_tokens`` beside them) and ``max_tokens``, or the most the model answers
    with (``most_output``). When it is over, what it cost is settled. ``unpriced`` models are refused where a
    budget is in money.
    """

    store: Store
    prices: Prices
    budgets: tuple[BudgetEntry, ...] = ()
    unpriced: Literal["refuse", "allow"] = "refuse"
    bytes_per_token: float = 1.0
    characters_per_token: float = 4.0
    template_tokens: int = 256
    attachment_tokens: int = 4096
    most_output: int = 16_384
    _rules: tuple[Rule, ...] = field(init=False, repr=False)
    _bounds: Bounds = field(init=False, repr=False)
    _open: dict[str, _Open] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a budget or an option that will not do."""
        names = ("bytes_per_token", "characters_per_token", "template_tokens", "attachment_tokens")
        for name in (*names, "most_output"):
            value = getattr(self, name)
            least = 0 if name in names[2:] else 1 / 8
            if not (math.isfinite(value) and least <= value <= 10**9):
                raise ConfigError(f"{name} = {value}: write a number above zero")
        object.__setattr__(self, "_rules", compiled(self.budgets))
        bounds = Bounds(*(getattr(self, name) for name in (*names, "most_output")))
        object.__setattr__(self, "_bounds", bounds)
        priced = {entry.currency for entry in self.prices.entries}
        for rule in self._rules:
            if rule.unit != TOKENS and rule.unit not in priced and self.unpriced == "refuse":
                raise ConfigError(
                    f"budget {rule.name!r} is in {rule.unit}, and no model has a price in it:"
                    " add [[prices]], or every call would be refused"
                )

    @hookimpl
    def init_app(self, app: "Flask") -> None:
        """Serve ``GET /v1/usage``."""
        install(app, self.store, self._rules)

    @hookimpl
    @only("completions", "chat", "embeddings")
    def admit(self, call: Call) -> Deny | None:
        """Reserve what the call may cost, from every purse it has to do with or from none."""
        now = datetime.now(UTC)
        caller, model = call.principal, clean(call.model or "")
        who = Who.of(caller.name, caller.groups, caller.metadata)
        price = self._price(call.model)
        most = self._bounds.most(call, price.most_output if price else None)
        found = _Open(who, most, price)
        # Whatever comes now, log_exchange is told: nothing stays here.
        self._open[call.id] = found
        charges: list[Charge] = []
        for rule in self._rules:
            subjects = rule.subjects(who, model)
            amount = _amount(rule, price, most)
            if amount is None and subjects and self.unpriced == "refuse":
                return _not_priced(rule, model)
            if amount is not None:
                period = rule.period_name(now)
                charges += (
                    Charge(rule.name, s, period, rule.unit, amount, rule.cap) for s in subjects
                )
        if not charges:
            return None
        # Should the store fail now, nobody knows whether it was reserved.
        self._open[call.id] = _Open(who, most, price, tuple(charges), unsure=True)
        labels = _labels(who, model, call.endpoint)
        shortage = self.store.ledger.reserve(call.id, charges, labels)
        if shortage is None:
            self._open[call.id] = _Open(who, most, price, tuple(charges))
            return None
        self._open[call.id] = found
        rule = next(rule for rule in self._rules if rule.name == shortage.charge.budget)
        return _exhausted(rule, shortage.charge, shortage.left, now)

    @hookimpl
    @only("completions", "chat", "embeddings")
    def log_exchange(self, record: Record) -> None:
        """Settle the call: give back what it reserved, pay what it cost, write down who used what."""
        found = self._open.pop(record.id, None)
        if record.principal is None:
            return  # a stranger: nothing was reserved, and whoever it is could fill the book
        who = found.who if found else Who.of(record.principal, record.groups, record.metadata)
        spent = self._bounds.spent(record, found.most) if found else Tokens()
        price = found.price if found else self._price(record.model)
        cost = price.cost(spent.prompt, spent.completion, spent.cached) if price else 0
        units = {TOKENS: spent.total, price.currency if price else "": cost}
        # A name that nobody has a price for and no upstream knows may be anything.
        answered = record.upstream_status is not None or record.answered_by is not None
        known = price is not None or (answered and not failed(record))
        model = clean(record.model or "") if known else ""
        labels = _labels(who, model, record.endpoint, record.upstream, price)
        counts = Counts(
            calls=1,
            refused=record.outcome == "denied",
            failed=failed(record),
            retries=record.retry_count > 0,
            estimated=spent.estimated,
            prompt_tokens=spent.prompt,
            cached_tokens=spent.cached,
            completion_tokens=spent.completion,
            cost=cost,
        )
        charges, unsure = (found.charges, found.unsure) if found else ((), False)
        self.store.ledger.settle(record.id, charges, units, labels, counts, unsure=unsure)

    def _price(self, model: str | None) -> Price | None:
        return self.prices.price(model or "", datetime.now(UTC).date())


def _labels(
    who: Who, model: str, endpoint: str, upstream: str | None = None, price: Price | None = None
) -> Labels:
    currency = price.currency if price else ""
    return Labels(who.key, who.owner, who.team, model, clean(upstream or ""), endpoint, currency)


def _amount(rule: Rule, price: Price | None, most: Tokens) -> int | None:
    """The most a call can take from a purse of ``rule``; None when nobody can tell."""
    if rule.unit == TOKENS:
        return most.total
    if price is None or price.currency != rule.unit:
        return None
    return price.most(most.prompt, most.completion)


def _not_priced(rule: Rule, model: str) -> Deny:
    return Deny(
        f"The model {model!r} has no price in {rule.unit}, and the budget {rule.name!r} counts money."
        " Use another model, or ask the operator of this gateway to add its price.",
        code="model_not_priced",
        param="model",
        status=403,
    )


def _exhausted(rule: Rule, charge: Charge, left: int, now: datetime) -> Deny:
    whose = "" if rule.per == "all" else f" of the {rule.per} {charge.subject!r}"
    ends = rule.period(now).ends
    when = f"It resets at {ends.isoformat()}." if ends else "It does not reset."
    advice = " A smaller max_tokens needs less." if left else ""
    return Deny(
        f"The budget {rule.name!r}{whose} has {rule.shown(left)} left of {rule.shown(rule.cap)}, and this call"
        f" may come to {rule.shown(charge.amount)}. {when}{advice}",
        code="insufficient_quota",
        status=429,
        type="insufficient_quota",
    )
