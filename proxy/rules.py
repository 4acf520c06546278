"""``[policy]`` as it is written: which action for which kind, for which calls."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from proxy.detect.detector import Detector
from proxy.errors import ConfigError, nearest
from proxy.model import Action
from proxy.scopes import When, check_when
from proxy.secret import Secret

Side: TypeAlias = Literal["request", "response"]
SIDES: Final[tuple[Side, ...]] = ("request", "response")
#: What happens to a kind that no rule names.
DEFAULT: Final[Mapping[Side, Action]] = {"request": "deny", "response": "allow"}
_SHORTEST_KEY: Final = 16
_MOST_TOLD: Final = 24


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``{ action = "deny", at_least = 5 }``: an action with a threshold.

    It is taken for findings of detectors that are as sure as ``confidence`` (0 to 1), once ``at_least``
    different texts were found of whatever the rule names; ``otherwise`` happens to what falls short.
    """

    action: Action
    confidence: float = 0.0
    at_least: int = 1
    otherwise: Action = "monitor"

    def __repr__(self) -> str:
        sure = f"confidence {self.confidence:g}" if self.confidence else ""
        many = f"at least {self.at_least}" if self.at_least > 1 else ""
        terms = " and ".join(filter(None, (sure, many)))
        return f"{self.action} if {terms}, else {self.otherwise}" if terms else self.action

    def action_of(self, detector: Detector) -> Action:
        """What happens to the findings of ``detector`` while they are few."""
        return self.otherwise if self.at_least > 1 or not self.holds_for(detector) else self.action

    def holds_for(self, detector: Detector) -> bool:
        """Whether the detector is sure enough."""
        return detector.confidence >= self.confidence


Rules: TypeAlias = Mapping[str, Action | Rule]


class Allowed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[policy.allowed]``: found texts that are none: exact values, whole-text patterns, SHA-256 digests."""

    values: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()


class Conversation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[policy.conversation]``: calls of one caller with the same ``header`` mask alike, by ``key``."""

    header: str
    key: Secret


class ScopedRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[policy.rules]]``: rules for some calls, which stand above those for all."""

    when: When
    request: dict[str, Action | Rule] = {}
    response: dict[str, Action | Rule] = {}


class PolicyTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[policy]``: ``request`` and ``response`` map a kind, a group of kinds or ``"*"`` to an action.

    ``confidence`` is the least (0 to 1) a detector must have; ``decode`` also reads what base64, hex and
    escapes in a request stand for; ``fakes`` masks with values that look real, where there are such.
    """

    request: dict[str, Action | Rule] = {}
    response: dict[str, Action | Rule] = {}
    rules: tuple[ScopedRules, ...] = ()
    confidence: float = 0.0
    decode: bool = True
    fakes: bool = False
    allowed: Allowed = Allowed()
    conversation: Conversation | None = None

    def tables(self, side: Side) -> Iterator[tuple[str, Rules]]:
        """Every table of rules for one side with its place in the file, the first that fits first."""
        for number, scoped in enumerate(self.rules):
            yield f"policy.rules[{number}].{side}", getattr(scoped, side)
        yield f"policy.{side}", getattr(self, side)


def rule_for(tables: Iterable[Rules], detector: Detector, default: Action) -> Action | Rule:
    """The rule of the first table that has one: for the kind, else for its narrowest group, else for ``"*"``."""
    names = (detector.kind, *sorted(detector.groups, key=len, reverse=True), "*")
    return next((rules[name] for rules in tables for name in names if name in rules), default)


def check_policy(table: PolicyTable, document: Mapping[str, Any], path: str) -> None:
    """What types alone do not say of ``[policy]``; ``document`` is the file. Raises ``ConfigError``."""
    _check_confidence(table.confidence, f"{path}: policy.confidence")
    for number, scoped in enumerate(table.rules):
        where = f"{path}: policy.rules[{number}]"
        check_when(document["policy"]["rules"][number]["when"], f"{where}.when")
        _check_scoped(scoped, where)
    for side in SIDES:
        for where, rules in table.tables(side):
            for name, rule in rules.items():
                if isinstance(rule, Rule):
                    _check_rule(rule, side, f"{path}: {where}.{name}")
    if table.conversation and len(table.conversation.key.reveal()) < _SHORTEST_KEY:
        raise ConfigError(
            f"{path}: policy.conversation.key holds fewer than {_SHORTEST_KEY} characters:"
            " make one with openssl rand -hex 32"
        )


def _detected(kind: str, known: Sequence[str]) -> str:
    """The names there are, or of very many those that read alike."""
    if len(known) <= _MOST_TOLD:
        return f"Detected: {', '.join(known) or 'nothing, no plugin has detectors'}"
    alike = difflib.get_close_matches(kind, known, n=_MOST_TOLD, cutoff=0.4)
    near = f" Most alike: {', '.join(alike)}." if alike else ""
    return f"{len(known)} kinds and groups are detected: outgate docs bundled-plugins names them.{near}"


def check_kinds(table: PolicyTable, kinds: Iterable[str], path: str) -> None:
    """A rule for a kind that nobody finds would never act: raises ``ConfigError``."""
    known = sorted(kinds)
    for side in SIDES:
        for where, rules in table.tables(side):
            for kind in rules:
                if kind != "*" and kind not in known:
                    raise ConfigError(
                        f"{path}: {where}.{kind}: no loaded plugin detects {kind!r}.{nearest(kind, known)}"
                        f" {_detected(kind, known)}"
                    )


def _check_scoped(scoped: ScopedRules, where: str) -> None:
    if scoped.when == When():
        raise ConfigError(
            f"{where}.when is empty, so it fits every call: name some, or write its rules into"
            " [policy.request] and [policy.response]"
        )
    if not (scoped.request or scoped.response):
        raise ConfigError(f"{where} has no rules: add request = {{ … }} or response = {{ … }}")


def _check_rule(rule: Rule, side: Side, where: str) -> None:
    _check_confidence(rule.confidence, f"{where}.confidence")
    if rule.at_least < 1:
        raise ConfigError(f"{where}.at_least = {rule.at_least}: write a number above zero")
    if rule.at_least > 1 and side == "response":
        raise ConfigError(
            f"{where}.at_least: only requests are counted, for what a stream has shown cannot be taken back."
            " Remove it"
        )
    if rule.confidence == 0 and rule.at_least == 1:
        raise ConfigError(
            f'{where} has no threshold: add confidence or at_least, or write "{rule.action}" instead'
        )


def _check_confidence(value: float, where: str) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{where} = {value!r}: write a number from 0 to 1")
