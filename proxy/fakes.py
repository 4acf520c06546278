"""Values that look real and are nobody's: what can stand for an e-mail address, a card or a name."""

from collections.abc import Callable, Mapping
from typing import Final

# Reserved for documentation (RFC 2606): mail to these reaches nobody.
_DOMAINS: Final = ("example.com", "example.net", "example.org")
_FIRST: Final = (
    "Alma", "Anton", "Astrid", "Bruno", "Carla", "Cedric", "Clara", "Dario", "Edith", "Elias",
    "Elsa", "Emil", "Fiona", "Felix", "Greta", "Hugo", "Ines", "Ivan", "Jonas", "Judith", "Karin",
    "Klaus", "Laura", "Leon", "Livia", "Lukas", "Magda", "Marek", "Mina", "Nadia", "Nils", "Olga",
    "Oscar", "Paula", "Pavel", "Rosa", "Ruben", "Selma", "Simon", "Tessa", "Theo", "Ulla", "Vera",
    "Viktor", "Wanda", "Xenia", "Yara", "Zeno",
)  # fmt: skip
_LAST: Final = (
    "Abbott", "Arden", "Barlow", "Becker", "Bellamy", "Bishop", "Calder", "Carver", "Colby",
    "Dalton", "Denholm", "Draper", "Ellery", "Farrow", "Fenwick", "Garland", "Granger", "Hadley",
    "Halden", "Ingram", "Jarvis", "Kendall", "Kirby", "Lambert", "Langley", "Marlow", "Merton",
    "Norwood", "Oakes", "Osborne", "Palmer", "Penrose", "Quill", "Radley", "Redfern", "Sawyer",
    "Selby", "Tanner", "Thorne", "Upton", "Vance", "Verney", "Walden", "Whitlock", "Yardley",
    "York", "Zeller",
)  # fmt: skip


def email(_: str, number: int) -> str:
    """An address in a domain that is kept free for examples."""
    first, last = _name(number)
    domain = _DOMAINS[number // 10**7 % len(_DOMAINS)]
    return f"{first}.{last}{number // 10**9 % 10**4:04d}@{domain}".lower()


def card(value: str, number: int) -> str:
    """A number with the issuer's first digit, the length and the blanks of ``value``, valid by Luhn."""
    places = [place for place, char in enumerate(value) if char.isdigit()]
    drawn = f"{number:030d}"[-len(places) + 1 :] if len(places) > 1 else ""
    digits = value[places[0]] + drawn[: len(places) - 2]
    chars = list(value)
    for place, digit in zip(places, digits + luhn(digits), strict=True):
        chars[place] = digit
    return "".join(chars)


def luhn(digits: str) -> str:
    """The check digit for ``digits`` (ISO/IEC 7812-1, annex B)."""
    doubled = (int(char) * (2 - place % 2) for place, char in enumerate(reversed(digits)))
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def person(_: str, number: int) -> str:
    """A first and a last name."""
    return " ".join(_name(number))


def _name(number: int) -> tuple[str, str]:
    return _FIRST[number % len(_FIRST)], _LAST[number // len(_FIRST) % len(_LAST)]


FAKES: Final[Mapping[str, Callable[[str, int], str]]] = {
    "email": email,
    "card": card,
    "person": person,
}
