"""Finds secrets: keys and tokens of services by their documented formats, and of any other by name and look."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from plugins.secrets import (
    ai,
    business,
    cloud,
    code,
    generic,
    gitleaks,
    keys,
    operations,
    places,
    services,
)
from plugins.secrets.rule import Rule
from proxy import ConfigError, Detector, Globs, hookimpl

#: Every bundled rule; the first of those that find the same place names it.
RULES: Final[tuple[Rule, ...]] = (
    *cloud.RULES,
    *ai.RULES,
    *code.RULES,
    *business.RULES,
    *operations.RULES,
    *services.RULES,
    *keys.RULES,
    *places.RULES,
    *generic.RULES,
)


@dataclass(frozen=True)
class Secrets:
    """``kinds`` and ``except_kinds``: which rules, by kind or group, with ``*`` and ``?``.

    ``generic = false`` leaves out the rules that go by names and looks instead of a service's format.
    ``gitleaks`` is the path of a rule file of your own, in the TOML that gitleaks and betterleaks read.
    """

    kinds: tuple[str, ...] = ("*",)
    except_kinds: tuple[str, ...] = ()
    generic: bool = True
    gitleaks: str | None = None

    @hookimpl
    def detectors(self) -> Iterator[Detector]:
        """One detector a rule; raises ``ConfigError`` when the options leave none."""
        chosen = [detector(rule) for rule in RULES if self._wants(rule)]
        if not chosen and not self.gitleaks:
            raise ConfigError(
                f"no kind of secret is left of {self.kinds}: see outgate docs bundled-plugins"
            )
        own = gitleaks.detectors(self.gitleaks) if self.gitleaks else ()
        return chain(chosen, own)

    def _wants(self, rule: Rule) -> bool:
        names = (rule.kind, *_groups(rule.group))
        return (
            (self.generic or rule.group != "secrets.generic")
            and any(map(Globs(self.kinds).match, names))
            and not any(map(Globs(self.except_kinds).match, names))
        )


def detector(rule: Rule) -> Detector:
    """The engine's form of a rule. All match on folded text, so that look-alike letters hide nothing."""
    return Detector(
        kind=rule.kind,
        core=rule.core,
        context=rule.context,
        tail=rule.tail,
        check=rule.check,
        opens=rule.opens,
        closes=rule.closes,
        most=rule.most,
        groups=_groups(rule.group),
        fold=True,
    )


def _groups(group: str) -> tuple[str, ...]:
    """``secrets.cloud`` as ``secrets``, ``secrets.cloud``."""
    parts = group.split(".")
    return tuple(".".join(parts[: size + 1]) for size in range(len(parts)))
