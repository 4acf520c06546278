"""Budgets in money and tokens, exact across processes, and the book of who used what."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, structs

from plugins.budget.bounds import Bounds, Tokens, answered, failed
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


class _Asked(Struct, frozen=True):
    """A body that was to be sent: its model, what it may come to, and at which price; decided once."""

    model: str
    most: Tokens = Tokens()
    price: Price | None = None


class _Open(Struct, frozen=True):
    """A call under way: whose, since when, the bodies it was asked about, what is reserved for the last granted one."""

    who: Who
    began: datetime
    asked: tuple[_Asked, ...] = ()
    charges: tuple[Charge, ...] = ()
    unsure: bool = False

    def sent(self, model: str) -> _Asked:
        """The body that a record with this model tells of."""
        for each in reversed(self.asked):
            if each.model == model:
                return each
        return self.asked[-1]


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
        """Reserve what the call may cost, from every purse it has to do with or from none.

        Asked again about a call, with what is sent now: that takes the place of what was reserved for it.
        """
        caller = call.principal
        before = self._open.get(call.id) or _Open(
            Who.of(caller.name, caller.groups, caller.metadata), datetime.now(UTC)
        )
        price = self._price(call.model, before.began)
        most = self._bounds.most(call, price.most_output if price else None)
        asked = _Asked(clean(call.model or ""), most, price)
        # Whatever comes now, log_exchange is told: nothing stays here.
        self._open[call.id] = found = structs.replace(before, asked=(*before.asked, asked))
        charges = self._charges(asked, found)
        return charges if isinstance(charges, Deny) else self._reserve(call, charges, found)

    def _charges(self, asked: _Asked, found: _Open) -> tuple[Charge, ...] | Deny:
        """What a call takes from each purse."""
        charges: list[Charge] = []
        for rule in self._rules:
            subjects = rule.subjects(found.who, asked.model)
            amount = _amount(rule, asked.price, asked.most)
            if amount is None and subjects and self.unpriced == "refuse":
                return _not_priced(rule, asked.model)
            if amount is not None:
                period = rule.period_name(found.began)
                charges += [
                    Charge(rule.name, subject, period, rule.unit, amount, rule.cap)
                    for subject in subjects
                ]
        return tuple(charges)

    def _reserve(self, call: Call, charges: tuple[Charge, ...], before: _Open) -> Deny | None:
        """Reserve in place of what was reserved before, which stays where that is refused."""
        again = bool(before.charges) or before.unsure
        if not charges and not again:
            return None
        # Should the store fail now, nobody knows whether it was reserved.
        self._open[call.id] = structs.replace(before, charges=charges, unsure=True)
        labels = _labels(before.who, before.asked[-1].model, call.endpoint)
        shortage = self.store.ledger.reserve(call.id, charges, labels, again=again)
        if shortage is None:
            self._open[call.id] = structs.replace(before, charges=charges, unsure=False)
            return None
        self._open[call.id] = before
        rule = next(rule for rule in self._rules if rule.name == shortage.charge.budget)
        return _exhausted(rule, shortage.charge, shortage.left, before.began)

    @hookimpl
    @only("completions", "chat", "embeddings")
    def log_exchange(self, record: Record) -> None:
        """Settle the call: give back what it reserved, pay what it cost, write down who used what."""
        found = self._open.pop(record.id, None)
        if record.principal is None:
            return  # a stranger: nothing was reserved, and whoever it is could fill the book
        if found is None:
            who = Who.of(record.principal, record.groups, record.metadata)
            found = _Open(who, datetime.now(UTC))
        name = clean(record.model or "")
        asked = found.sent(name) if found.asked else None
        spent = self._bounds.spent(record, asked.most) if asked else Tokens()
        price = asked.price if asked else self._price(record.model, found.began)
        cost = price.cost(spent.prompt, spent.completion, spent.cached) if price else 0
        units = {TOKENS: spent.total, price.currency if price else "": cost}
        # A name that nobody has a price for and no upstream knows may be anything.
        known = price is not None or answered(record)
        labels = _labels(found.who, name if known else "", record.endpoint, record.upstream, price)
        counts = _counts(record, spent, cost)
        self.store.ledger.settle(
            record.id, found.charges, units, labels, counts, unsure=found.unsure
        )

    def _price(self, model: str | None, moment: datetime) -> Price | None:
        return self.prices.price(model or "", moment.date())


def _counts(record: Record, spent: Tokens, cost: int) -> Counts:
    return Counts(
        calls=1,
        refused=record.outcome == "denied",
        failed=failed(record),
        retries=record.retry_count > 0,
        cached=record.answered_by is not None,
        estimated=spent.estimated,
        prompt_tokens=spent.prompt,
        cached_tokens=spent.cached,
        completion_tokens=spent.completion,
        cost=cost,
    )


def _labels(
    who: Who, model: str, endpoint: str, upstream: str | None = None, price: Price | None = None
) -> Labels:
    currency = price.currency if price else ""
    named = clean(upstream) if upstream else ""
    return Labels(who.key, who.owner, who.team, model, named, endpoint, currency)


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
