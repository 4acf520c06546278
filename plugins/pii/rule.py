"""What every rule module shares: a detector with the country it belongs to, and how context is written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy import Detector

_SHORT: Final = 4
_LITERAL: Final = 3
_MOST_SHORT: Final = 5
_MOST_LONG: Final = 8
_SIGNS: Final = ' :="_,>\n'
_SAME_LINE: Final = r"[^0-9\n]{0,32}?"
_ANY_TEXT: Final = r"[^\n]{0,32}?"
# A label on a line of its own, and a CSV header with the value some cells into the next row.
_NEXT_LINE: Final = r"(?:[ _-]?(?i:number|no|nr|id))?[\"']?[:=]?[ \t]{0,8}\r?\n[ \t\"']{0,8}"
_NEXT_ROW: Final = r"[A-Za-z0-9_ ,;|\t\"'-]{0,60}?\r?\n(?:[^\n,;|\t]{0,30}[,;|\t]){1,4}[ \"']{0,2}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One detector and the ISO 3166 code of the country it belongs to; ``""`` is everywhere."""

    country: str
    detector: Detector


def rule(
    kind: str,
    core: str,
    *groups: str,
    country: str = "",
    check: Callable[[str], bool] | None = None,
    **rest: Any,
) -> Rule:
    """A rule in the group "pii", in "pii.<group>" for each of ``groups``, and in its country's group."""
    named = ("pii", *(f"pii.{group}" for group in groups))
    if country:
        named = (*named, f"pii.{country.lower()}")
    rest.setdefault("fold", True)
    return Rule(country, Detector(kind=kind, core=core, groups=named, check=check, **rest))


def words(*phrases: str) -> str:
    """A pattern for any of ``phrases``, in any case, ``snake_case`` and ``camelCase`` included.

    A blank in a phrase stands for a blank, ``_``, ``-`` or nothing, ``~`` for one of the three. A word
    of up to four letters takes the sign behind it along: "tin" alone stands in too many words to be
    looked for.
    """
    short = [phrase for phrase in phrases if _is_short(phrase)]
    long = [_spaced(phrase) for phrase in phrases if phrase not in short]
    kept = []
    if long:
        kept.append(rf"(?:\b|_)(?i:{'|'.join(long)})(?:s\b|\b|_|[A-Z])")
    if short:
        kept.append(rf"\b(?i:{'|'.join(short)})[{_SIGNS}]")
    return f"(?:{'|'.join(kept)})"


def _is_short(phrase: str) -> bool:
    return phrase.isalpha() and len(phrase) <= _SHORT


def beside(
    kind: str, core: str, *groups: str, phrases: Sequence[str], digits: bool = True, **rest: Any
) -> Iterator[Rule]:
    """Rules for a value behind any of ``phrases``: so many in each that it starts with few literals."""
    short = [phrase for phrase in phrases if _is_short(phrase)]
    long = [phrase for phrase in phrases if phrase not in short]
    for some, most in ((short, _MOST_SHORT), (long, _MOST_LONG)):
        for place in range(0, len(some), most):
            context = before(*some[place : place + most], digits=digits)
            yield rule(kind, core, *groups, context=context, **rest)


def _spaced(phrase: str) -> str:
    # A literal must have three characters to be looked for: "id card" is not found as "idcard".
    first, _, _ = phrase.partition(" ")
    fixed = phrase.replace(" ", "~", 1) if len(first) < _LITERAL else phrase
    return fixed.replace(" ", "[ _-]?").replace("~", "[ _-]")


def before(*phrases: str, digits: bool = True) -> str:
    """The context of a value: a label, then little (no digit, if the value starts with one) before it."""
    gap = _SAME_LINE if digits else _ANY_TEXT
    return f"{words(*phrases)}(?:{gap}|{_NEXT_LINE}|{_NEXT_ROW})"


def after(*phrases: str) -> str:
    """The context behind a value: "… is my ssn", "…? it's her phone number"."""
    choices = "|".join(map(_spaced, phrases))
    return rf"[^0-9\n]{{0,20}}?\b(?i:my|his|her|our|your|their)[ ](?i:{choices})"


def digits(count: int, most: int = 0, between: str = " .-") -> str:
    """A number of ``count`` (to ``most``) digits, each of which may follow one of ``between``."""
    more = f"{count - 1},{most - 1}" if most else str(count - 1)
    return rf"\b[0-9](?:[{between}]?[0-9]){{{more}}}\b"
