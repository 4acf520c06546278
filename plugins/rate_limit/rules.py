"""What an operator limits: rules as they are written, and what a call demands of each."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from limits import parse_many
from msgspec import Struct

from plugins.rate_limit.window import Demand
from proxy import Call, ConfigError, Globs, Principal

Kind = Literal["requests", "tokens", "concurrent"]
_EXAMPLE: Final = 'write e.g. "60/minute", "1000 per 2 hours", or several: "10/second; 5000/day"'


@dataclass(frozen=True)
class Rule:
    """One entry of ``rules``: ``per`` says what is counted apart, ``match`` and ``models`` what is counted at all."""

    per: Literal["key", "owner", "team", "model", "all"]
    match: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    requests: str | None = None
    tokens: str | None = None
    concurrent: int | None = None

    def limits(self) -> Iterator["Limit"]:
        """Each of its limits; raises ``ConfigError`` when it has none or one cannot be read."""
        if (self.requests, self.tokens, self.concurrent) == (None, None, None):
            raise ConfigError(
                f"the rule per {self.per!r} limits nothing: add requests, tokens or concurrent"
            )
        yield from self._rates("requests", self.requests)
        yield from self._rates("tokens", self.tokens)
        if self.concurrent is not None:
            if self.concurrent < 1:
                raise ConfigError(f"concurrent = {self.concurrent}: at least 1 call at a time")
            yield self._limit("concurrent", self.concurrent, 0, "at a time")

    def _rates(self, kind: Kind, text: str | None) -> Iterator["Limit"]:
        if text is None:
            return
        try:
            items = parse_many(text)
        except ValueError:
            raise ConfigError(f"{kind} = {text!r} is no rate: {_EXAMPLE}") from None
        for item in items:
            if item.amount < 1:
                raise ConfigError(f"{kind} = {text!r} would let nothing pass: {_EXAMPLE}")
            unit = item.GRANULARITY.name
            span = f"{item.multiples} {unit}s" if item.multiples > 1 else unit
            yield self._limit(kind, item.amount, item.get_expiry(), f"per {span}")

    def _limit(self, kind: Kind, amount: int, span: int, words: str) -> "Limit":
        # Without the amount: a limit that is raised goes on from what was used.
        identity = repr((kind, span, self.per, self.match, self.models)).encode()
        return Limit(
            kind=kind, amount=amount, span=float(span), words=words, per=self.per,
            match=Globs(self.match), models=Globs(self.models),
            identity=hashlib.blake2b(identity, digest_size=8).digest(),
        )  # fmt: skip


class Limit(Struct, frozen=True, kw_only=True):
    """One number that must not be exceeded."""

    kind: Kind
    amount: int
    span: float
    words: str
    per: str
    match: Globs
    models: Globs
    identity: bytes

    def claims(self, call: Call, tokens: int) -> Iterator["Claim"]:
        """What ``call`` demands of it: nothing, one thing, or one for each of the caller's teams."""
        amount = tokens if self.kind == "tokens" else 1
        if not amount or not (self.models.everything or self.models.match(call.model or "")):
            return
        for subject in subjects(self.per, call):
            if self.match.everything or self.match.match(subject):
                key = _counter(self.identity, subject)
                yield Claim(self, subject, Demand(key, self.amount, amount, self.span))


@lru_cache(4096)
def _counter(identity: bytes, subject: str) -> bytes:
    """The name of what counts for one subject of a limit."""
    name = subject.encode(errors="surrogatepass")
    return hashlib.blake2b(identity + name, digest_size=16).digest()


class Claim(Struct, frozen=True):
    """A limit, whose it is, and what a call demands of it."""

    limit: Limit
    subject: str
    demand: Demand

    def __str__(self) -> str:
        limit = self.limit
        what = "calls" if limit.kind == "concurrent" else limit.kind
        whose = "all callers" if limit.per == "all" else f"{limit.per} {self.subject[:128]!r}"
        return f"{limit.amount} {what} {limit.words} for {whose}"


def subjects(per: str, call: Call) -> tuple[str, ...]:
    """Whom or what a call counts for."""
    principal = call.principal
    match per:
        case "key":
            return (principal.metadata.get("key") or principal.name,)
        case "owner":
            return (principal.metadata.get("owner") or principal.name,)
        case "team":
            return _teams(principal)
        case "model":
            return (call.model,) if call.model else ()
        case _:
            return ("",)


def _teams(principal: Principal) -> tuple[str, ...]:
    """The caller's team and groups, those above them included, each once."""
    own = principal.metadata.get("team")
    return tuple(dict.fromkeys([*([own] if own else []), *principal.groups]))


def compiled(rules: tuple[Rule, ...]) -> tuple[Limit, ...]:
    """Every limit of every rule; raises ``ConfigError``, also for two that would share a counter."""
    if not rules:
        raise ConfigError('rules is empty: add e.g. { per = "key", requests = "60/minute" }')
    found: dict[bytes, Limit] = {}
    for rule in rules:
        for limit in rule.limits():
            if limit.identity in found:
                raise ConfigError(
                    f"two rules limit {limit.kind} per {limit.per} {limit.words} for the same callers and"
                    " models: keep one"
                )
            found[limit.identity] = limit
    return tuple(found.values())
