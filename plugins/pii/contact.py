"""E-mail addresses, telephone numbers, postal codes and street addresses."""
# ruff: noqa: PLR2004 - the numbers are those of the published formats, named where they stand

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException

from plugins.pii import checks
from plugins.pii.rule import Rule, after, beside, rule
from proxy import linear

_EMAIL: Final = (
    r"\b[A-Za-z0-9_](?:[A-Za-z0-9._%+'-]{0,62}[A-Za-z0-9_+-])?"
    r"(?:@|%40)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}\b"
)
# Not people: the user names of version control, and file names such as icon@2x.png.
_ROLES: Final = frozenset({"git", "svn", "hg", "noreply", "no-reply", "donotreply", "do-not-reply"})
_FILES: Final = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "css",
        "js",
        "mjs",
        "ts",
        "tsx",
        "jsx",
        "json",
        "html",
        "py",
        "rb",
    ]
)

_EXTENSION: Final = r"(?:[ ]?(?i:x|ext\.?)[ ]?[0-9]{1,5})?"
_ABROAD: Final = r"(?:\+|\b00)[1-9][0-9]{0,2}(?:[ ./-]{0,2}\(?[0-9]\)?){6,13}\b" + _EXTENSION
_NORTH_AMERICA: Final = (
    r"(?:\b1[ .-])?(?:\([2-9][0-9]{2}\)[ ]?|\b[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}\b"
    + _EXTENSION
)
_TRUNK: Final = r"(?:\(0[0-9]{1,5}\)[ ]?|\b0[0-9]{1,4}[ /-])[0-9]{2,8}(?:[ /-][0-9]{2,5}){0,4}\b"
_CALLED: Final = r"(?:\+|\()?[0-9](?:[ ./-]{0,3}\(?[0-9]\)?){5,14}\b" + _EXTENSION
_PHONE_WORDS: Final = (
    "phone",
    "telephone",
    "telefon",
    "telephon",
    "smartphone",
    "iphone",
    "mobile?(?: number| no)?",
    "movil",
    "handy",
    "rufnummer",
    "cellulare",
    "celular",
    "cellphone",
    "portable",
    "whatsapp",
    "msisdn",
    "call~(?:me|us|him|her)",
    "text~me",
    "answering at",
    "contact (?:number|no)",
    "dial",
    "reach(?: me)? (?:at|on)",
)
_SHORT_WORDS: Final = ("tel", "fax", "cell", "gsm")
_OWN_WORDS: Final = ("phone", "tel", "mobile", "cell", "fax", "call")
_LINES: Final = r"[ \t]{1,3}\(?(?i:office|fax|mobile|cell|home|work|phone|tel|direct)\b"
# Where a number without a country code is tried; each trial costs, and most have their own shapes.
REGIONS: Final = (
    "GB",
    "DE",
    "FR",
    "IT",
    "ES",
    "NL",
    "BE",
    "CH",
    "AT",
    "AU",
    "JP",
    "IN",
    "SE",
    "IL",
    "BR",
    "PL",
    "NZ",
    "IE",
    "ZA",
    "KR",
)


def email(text: str) -> bool:
    """An address of somebody, not of a version control service or a file."""
    local, _, domain = text.lower().replace("%40", "@").rpartition("@")
    last = domain.rpartition(".")[2]
    return local not in _ROLES and last not in _FILES and ".." not in text and len(text) <= 254


def _digit_count(text: str) -> int:
    return len(checks.digits_of(text))


@lru_cache(maxsize=4096)
def abroad(text: str) -> bool:
    """A number with its country's code, by the numbering plans (ITU-T E.164)."""
    number = "+" + text[2:] if text.startswith("00") else text
    return _dialled(number, "ZZ") or (_digit_count(text) > 9 and _possible(number))


def _dialled(text: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except NumberParseException:
        return False


def _possible(text: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(text))
    except NumberParseException:
        return False


def at_home(regions: Sequence[str]) -> "checks.Check":
    """Whether one of ``regions`` has such a number, written without the country's code."""

    @lru_cache(maxsize=4096)
    def check(text: str) -> bool:
        return 8 <= _digit_count(text) <= 12 and any(_dialled(text, region) for region in regions)

    return check


def _formatted(regions: Sequence[str]) -> "checks.Check":
    home = at_home(regions)
    north = linear(rf"\A(?:{_NORTH_AMERICA})\z")

    def check(text: str) -> bool:
        if text.startswith(("+", "00")):
            return abroad(text)
        return not _dated(text) and (bool(north.search(text)) or home(text))

    return check


def called(text: str) -> bool:
    """For what the text calls a telephone number: 6 to 15 digits that are no date and no filler."""
    number = checks.digits_of(text)
    return 6 <= len(number) <= 15 and len(set(number)) > 2 and not _dated(text)


def _dated(text: str) -> bool:
    parts = text.replace("/", "-").replace(".", "-").split("-")
    return len(parts) == 3 and sorted(map(len, parts)) in ([2, 2, 4], [1, 2, 4], [1, 1, 4])


def rules(regions: Sequence[str]) -> Iterator[Rule]:
    """E-mail, telephone and postal codes."""
    yield rule("email", _EMAIL, "contact", check=email)
    yield rule(
        "phone", f"(?:{_ABROAD}|{_NORTH_AMERICA}|{_TRUNK})", "contact", check=_formatted(regions)
    )
    for phrases in (_PHONE_WORDS, _SHORT_WORDS):
        yield from beside("phone", _CALLED, "contact", phrases=phrases, check=called)
    yield rule(
        "phone",
        _CALLED,
        "contact",
        tail=f"(?:{_LINES}|{after(*_OWN_WORDS)})",
        check=called,
    )
    yield from _postal()


def _postal() -> Iterator[Rule]:
    yield rule(
        "postal-code",
        r"\b(?:GIR 0AA|[A-PR-UWYZ][A-HK-Y]?[0-9][0-9ABEHMNPRVWXYJKSTU]? [0-9][ABD-HJLNP-UW-Z]{2})\b",
        "contact",
        country="GB",
    )
    yield rule(
        "postal-code",
        r"\b[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z] [0-9][ABCEGHJ-NPRSTV-Z][0-9]\b",
        "contact",
        country="CA",
    )
    yield from beside(
        "postal-code",
        r"\b(?:[A-Za-z]{1,2}[0-9][0-9A-Za-z]?[ -]?[0-9][A-Za-z]{2}|[A-Za-z][0-9][A-Za-z][ -]?[0-9][A-Za-z][0-9]"
        r"|[0-9]{4} ?[A-Z]{2}|[A-Z]{1,2}-[0-9]{4,5})\b",
        "contact",
        phrases=("zip code", "zip", "postal code", "postcode", "post~code", "plz", "eircode"),
        digits=False,
        confidence=0.7,
    )
    yield from beside(
        "postal-code",
        r"\b[0-9]{3,5}(?:[ -][0-9]{2,4})?\b",
        "contact",
        phrases=(
            "zip code",
            "zip",
            "postal code",
            "postcode",
            "post~code",
            "plz",
            "postleitzahl",
            "code~postal",
        ),
        confidence=0.7,
    )
