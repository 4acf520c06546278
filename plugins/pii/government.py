"""Numbers that states give to people and companies, from the table of registers."""
# ruff: noqa: PLR2004 - the numbers are those of the published formats, named where they stand

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from plugins.pii import checks
from plugins.pii.numbering import OWN
from plugins.pii.register import Register
from plugins.pii.registers_europe import EUROPE
from plugins.pii.registers_world import WORLD
from plugins.pii.rule import Rule, after, beside, rule

REGISTERS: Final = (*WORLD, *EUROPE)
_CLASSES: Final = {"9": "[0-9]", "A": "[A-Z]", "a": "[a-z]"}
# The words that people use of their own numbers, behind them.
_OWN_WORDS: Final = (
    "ssn", "social", "bsn", "tfn", "tin", "nhs", "tax", "national", "id", "insurance", "personnummer",
    "pesel", "cpf", "aadhaar", "steuer", "sin", "nino", "abn",
)  # fmt: skip
_EPOCH: Final = re.compile("1[5-9][0-9]{11}")  # milliseconds, from 2017 on
_DIGIT: Final = re.compile("[0-9]")
_CAPITAL: Final = re.compile("[A-Z]")
_SMALL: Final = re.compile("[b-z]")


def shape(text: str) -> str:
    """``text`` with 9 for each digit, A for each capital, a for each small letter."""
    return _SMALL.sub("a", _CAPITAL.sub("A", _DIGIT.sub("9", text)))


def _pattern(shapes: Collection[str]) -> str:
    longest_first = sorted(shapes, key=lambda one: (-len(one), one))
    choices = (
        "".join(_CLASSES.get(char) or re.escape(char) for char in one) for one in longest_first
    )
    return rf"\b(?:{'|'.join(choices)})\b"


def _by_shape(registers: Collection[Register]) -> Mapping[str, Collection[checks.Check]]:
    table: dict[str, list[checks.Check]] = defaultdict(list)
    for register in registers:
        for one in filter(None, register.bare.split("|")):
            table[one].append(_check(register))
    return table


def _check(register: Register) -> checks.Check:
    if register.modules:
        return checks.any_of(register.modules.split())
    return OWN.get(register.kind, checks.identifier)


def _bare(kind: str, registers: Collection[Register], country: str = "") -> Iterator[Rule]:
    """One rule, and one pass over the text, for the strong numbers of all ``registers``."""
    table = _by_shape(registers)

    def check(text: str) -> bool:
        likely = not text.isdigit() or (len(set(text)) > 2 and not _EPOCH.fullmatch(text))
        return likely and any(one(text) for one in table.get(shape(text), ()))

    if table:
        yield rule(kind, _pattern(table), "government", country=country, check=check)


def rules(countries: Callable[[str], bool]) -> Iterator[Rule]:
    """Strong numbers wherever they stand; any number beside the words for it."""
    chosen = [register for register in REGISTERS if countries(register.country)]
    yield from _bare("us-ssn", [r for r in chosen if r.kind == "us-ssn"], "US")
    yield from _bare("national-id", [r for r in chosen if r.kind != "us-ssn"])
    for register in chosen:
        yield from beside(
            register.kind,
            register.core,
            "government",
            country=register.country,
            check=_check(register),
            phrases=register.phrases,
            digits=False,
        )
    yield from _after(chosen)


def _after(registers: Collection[Register]) -> Iterator[Rule]:
    modules = sorted({module for r in registers for module in r.modules.split()})
    if modules:
        yield rule(
            "national-id",
            r"\b[0-9](?:[ .-]?[0-9]){7,13}\b",
            "government",
            tail=after(*_OWN_WORDS),
            check=checks.any_of(modules),
        )
