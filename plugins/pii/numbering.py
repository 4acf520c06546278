"""Checksums and structures of numbers that python-stdnum does not know."""
# ruff: noqa: PLR2004 - the numbers are those of the published formats, named where they stand

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stdnum import luhn
from stdnum.us import ssn

_SINGAPORE: Final = {
    "S": (0, "JZIHGFEDCBA"),
    "T": (4, "JZIHGFEDCBA"),
    "F": (0, "XWUTRQPNMLK"),
    "G": (4, "XWUTRQPNMLK"),
    "M": (3, "XWUTRQPNJLK"),
}
_PENSION_WEIGHTS: Final = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
_MBI: Final = ("N", "A", "X", "N", "A", "X", "N", "A", "A", "N", "N")
_MBI_LETTERS: Final = frozenset("ACDEFGHJKMNPQRTUVWXY")
_NOT_NINO: Final = frozenset({"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"})


def _plain(text: str) -> str:
    return "".join(char for char in text.upper() if char.isalnum())


def _weighed(values: Iterable[int], weights: Iterable[int]) -> int:
    return sum(value * weight for value, weight in zip(values, weights, strict=False))


def taxpayer(text: str) -> bool:
    """A US ITIN: 9xx, with a group that the IRS gives out (Publication 1915)."""
    number = _plain(text)
    group = int(number[3:5])
    return number[0] == "9" and (50 <= group <= 65 or 70 <= group <= 99) and group not in (89, 93)


def social_security(text: str) -> bool:
    """A US SSN by its ranges (SSA): no 000 or 666, no group 00, no serial 0000.

    9xx was never given out, so with dashes it is a sample or a taxpayer's number: kept in, it costs nothing.
    """
    sample = text[0] == "9" and text[3] == "-" and text[4:6] != "00" and text[7:] != "0000"
    return sample or ssn.is_valid(text) or taxpayer(text)


def singapore(text: str) -> bool:
    """NRIC and FIN: weights 2 7 6 5 4 3 2, the series' offset, a letter for the rest modulo 11."""
    offset, letters = _SINGAPORE.get(text[0], (0, ""))
    total = offset + sum(w * int(d) for w, d in zip((2, 7, 6, 5, 4, 3, 2), text[1:8], strict=True))
    return bool(letters) and letters[total % 11] == text[8]


def national_insurance(text: str) -> bool:
    """A NINO's prefix and suffix, as HMRC gives them out (National Insurance Manual, NIM39110)."""
    prefix = _plain(text)[:2]
    first, second = prefix[0] not in "DFIQUV", prefix[1] not in "DFIQUVO"
    return first and second and prefix not in _NOT_NINO and _plain(text)[-1] in "ABCD"


def driving_licence(text: str) -> bool:
    """A DVLA number: the surname fills five places with nines, then a year, month and day mixed."""
    number = text.upper()
    surname, month, day = number[:5].rstrip("9"), number[6:8], number[8:10]
    fits = len(number) == 16 and surname.isalpha() and (month + day).isdigit()
    return fits and 1 <= int(month) % 50 <= 12 and int(month) < 63 and 1 <= int(day) <= 31


def health_card(text: str) -> bool:
    """A German KVNR: the letter as two digits, weights 1 2 in turn, digit sums modulo 10."""
    number = f"{ord(text[0].upper()) - 64:02d}{text[1:9]}"
    values = [int(digit) * (1 + place % 2) for place, digit in enumerate(number)]
    return sum(value // 10 + value % 10 for value in values) % 10 == int(text[9])


def pension(text: str) -> bool:
    """A German pension insurance number: a birth date inside, digit sums by weights modulo 10."""
    number = f"{text[:8]}{ord(text[8]) - 64:02d}{text[9:11]}"
    values = (int(d) * w for d, w in zip(number, _PENSION_WEIGHTS, strict=True))
    day, month = int(text[2:4]), int(text[4:6])
    fits = 1 <= day % 50 <= 31 and 1 <= month <= 12
    return fits and sum(v // 10 + v % 10 for v in values) % 10 == int(text[11])


def medicare(text: str) -> bool:
    """A Medicare Beneficiary Identifier: which places are digits, and no S L O I B Z (CMS)."""
    number = _plain(text)
    fits = (
        char.isdigit()
        if place == "N"
        else char in _MBI_LETTERS or (place == "X" and char.isdigit())
        for place, char in zip(_MBI, number, strict=False)
    )
    return len(number) == len(_MBI) and number[0] != "0" and all(fits)


def provider(text: str) -> bool:
    """A National Provider Identifier: Luhn with the prefix 80840 (45 CFR 162.406)."""
    number = _plain(text)
    return number[0] in "12" and luhn.is_valid("80840" + number)


def drug_enforcement(text: str) -> bool:
    """A DEA number: (d1 + d3 + d5) + 2 (d2 + d4 + d6) ends in d7; the first letter is a registrant's."""
    d = [int(digit) for digit in text[2:]]
    total = d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])
    return text[0] in "ABCDEFGHJKLMPRSTUX" and total % 10 == d[6] and len(set(d)) > 2


def australian_medicare(text: str) -> bool:
    """An Australian Medicare number: weights 1 3 7 9 over eight digits, modulo 10."""
    d = [int(digit) for digit in _plain(text)]
    total = sum(digit * (1, 3, 7, 9)[place % 4] for place, digit in enumerate(d[:8]))
    return 2 <= d[0] <= 6 and total % 10 == d[8]


def hong_kong(text: str) -> bool:
    """An HKID: letters as 10 to 35, a blank as 36, weights 9 to 1, modulo 11."""
    number = _plain(text).rjust(9)
    values = [36 if char == " " else int(char, 36) for char in number[:8]]
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return "0123456789A"[-total % 11] == number[8]


def taiwan(text: str) -> bool:
    """A Taiwanese identity number: the letter as two digits, weights 1 9 8 … 1 1, modulo 10."""
    letter = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    numbers = [letter // 10, letter % 10, *map(int, text[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(n * w for n, w in zip(numbers, weights, strict=True)) % 10 == 0


def luhn_checked(text: str) -> bool:
    """A number that ends in a Luhn digit: Emirates ID, Saudi ID, Australian healthcare identifiers."""
    number = _plain(text)
    return len(set(number)) > 3 and bool(luhn.is_valid(number))


def kuwait(text: str) -> bool:
    """A Kuwaiti civil ID: a birth date inside, weights 2 1 6 3 7 9 10 5 8 4 2, modulo 11."""
    d = [int(digit) for digit in text]
    total = _weighed(d, (2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    return 11 - total % 11 == d[11] and text[3:5] <= "12" and text[5:7] <= "31"


def iran(text: str) -> bool:
    """An Iranian national code: weights 10 to 2, modulo 11."""
    d = [int(digit) for digit in _plain(text)]
    rest = _weighed(d, range(10, 1, -1)) % 11
    return d[9] == (rest if rest < 2 else 11 - rest) and len(set(d)) > 2


def taj(text: str) -> bool:
    """A Hungarian social security number: weights 3 7 in turn, modulo 10."""
    d = [int(digit) for digit in _plain(text)]
    return _weighed(d, (3, 7) * 4) % 10 == d[8]


def polish_card(text: str) -> bool:
    """A Polish identity card: letters as 10 to 35, weights 7 3 1 9 7 3 1 7 3, modulo 10."""
    values = [int(char, 36) for char in _plain(text)]
    return _weighed(values, (7, 3, 1, 9, 7, 3, 1, 7, 3)) % 10 == 0


OWN: Final[Mapping[str, Callable[[str], bool]]] = {
    "us-ssn": social_security,
    "sg-nric": singapore,
    "uk-nino": national_insurance,
    "uk-driving-licence": driving_licence,
    "de-health-insurance-number": health_card,
    "de-pension-number": pension,
    "us-mbi": medicare,
    "au-medicare-number": australian_medicare,
    "us-npi": provider,
    "us-dea-number": drug_enforcement,
    "hk-identity-card": hong_kong,
    "tw-identity-number": taiwan,
    "ae-emirates-id": luhn_checked,
    "sa-national-id": luhn_checked,
    "au-ihi": luhn_checked,
    "kw-civil-id": kuwait,
    "ir-national-code": iran,
    "hu-taj": taj,
    "pl-identity-card": polish_card,
}
