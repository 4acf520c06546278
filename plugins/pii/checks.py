"""Validators of what a pattern found: checksums, ranges and plausibility, each on the found text alone."""
# ruff: noqa: PLR2004 - the numbers are those of the published formats, named where they stand

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from typing import Final, cast

from stdnum import iban, luhn

Check = Callable[[str], bool]


def _dated(day: int, month: int, offsets: Collection[int] = (0,)) -> Check:
    """Whether two digits at ``day`` and two at ``month`` are a day and a month plus one of ``offsets``."""
    months = frozenset(f"{one + offset:02d}" for one in range(1, 13) for offset in offsets)
    return lambda text: text[month : month + 2] in months and "01" <= text[day : day + 2] <= "31"


def _weighed(text: str, weights: Iterable[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(text, weights, strict=False))


# What a number must look like before its checksum is worth the time: modules, and tests of digits.
LIKELY: Final[Mapping[str, Check]] = {
    "pl.pesel": _dated(4, 2, (0, 20, 40, 60, 80)),
    "ee.ik": _dated(5, 3),
    "gr.amka": _dated(0, 2),
    "za.idnr": _dated(4, 2),
    "ro.cnp": _dated(5, 3),
    "si.emso": _dated(0, 2),
    "kr.rrn": _dated(4, 2),
    "se.personnummer": lambda text: text[:2] in ("18", "19", "20") or len(text) == 10,
    "cn.ric": _dated(12, 10),
    "de.idnr": lambda text: len(set(text[:10])) in (8, 9),
    "tr.tckimlik": lambda text: sum(map(int, text[:-1])) % 10 == int(text[-1]),
    "ch.ssn": lambda text: text.startswith("756"),
    "be.nn": lambda text: text[4:6] < "32" and text[2:4] < "13",
    "be.bis": lambda text: text[4:6] < "32" and "19" < text[2:4] < "53",
    "no.fodselsnummer": lambda text: int(text[:2]) % 40 < 32 and 0 < int(text[2:4]) % 40 < 13,
    "au.abn": lambda text: (_weighed(text, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) - 10) % 89 == 0,
    "au.acn": lambda text: len(text) == 9,
    "br.cpf": lambda text: _weighed(text, range(10, 0, -1)) % 11 in (0, 1),
    "fr.nir": lambda text: text[0] in "123478",
}
_NO_DIGIT: Final = re.compile(r"[^0-9]")
_BASE58: Final = {
    char: value
    for value, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
}
_BECH32: Final = {char: value for value, char in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_BECH32_STEPS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_ENDS: Final = (1, 0x2BC830A3)  # bech32 (BIP 173) and bech32m (BIP 350)


def digits_of(text: str) -> str:
    """The ASCII digits of ``text``, nothing else."""
    return _NO_DIGIT.sub("", text)


@cache
def standard(module: str) -> Check:
    """The validator of one python-stdnum module, such as ``"de.idnr"``."""
    valid = cast(Check, import_module(f"stdnum.{module}").is_valid)
    likely = LIKELY.get(module, str.isascii)

    def check(text: str) -> bool:
        if text.isdecimal() and not likely(text):
            return False
        # Some modules look a part up that they have not checked.
        try:
            return valid(text)
        except (LookupError, ValueError):
            return False

    return check


def any_of(modules: Collection[str]) -> Check:
    """Whether one of the python-stdnum ``modules`` takes the text."""
    checks = [standard(module) for module in modules]
    return lambda text: any(check(text) for check in checks)


# The first four digits of issuers' ranges, from and to, and the lengths of their numbers.
_ISSUERS: Final = (
    (2131, 2131, (15,)),  # JCB
    (2200, 2204, (16,)),  # Mir
    (2221, 2720, (16,)),  # Mastercard
    (3000, 3059, (14, 16)),  # Diners Club
    (3400, 3499, (15,)),  # American Express
    (3528, 3589, (16,)),  # JCB
    (3600, 3699, (14, 16)),  # Diners Club
    (3700, 3799, (15,)),  # American Express
    (3800, 3999, (14, 16)),  # Diners Club
    (4000, 4999, (13, 16, 19)),  # Visa
    (5000, 5099, (16,)),  # Maestro; its other lengths need a word beside the number
    (5100, 5599, (16,)),  # Mastercard
    (5600, 6999, (16,)),  # Maestro, Discover, UnionPay, RuPay, national schemes
    (8100, 8299, (16,)),  # RuPay
)


def card(text: str) -> bool:
    """A payment card: a known issuer's range, its length, and Luhn (ISO/IEC 7812)."""
    number = digits_of(text)
    first, length = int(number[:4]), len(number)
    known = any(low <= first <= high and length in lengths for low, high, lengths in _ISSUERS)
    return known and luhn.is_valid(number)


def clabe(text: str) -> bool:
    """A Mexican CLABE: weights 3 7 1 in turn, each product and the sum modulo 10."""
    d = [int(digit) for digit in digits_of(text)]
    total = sum(digit * (3, 7, 1)[place % 3] % 10 for place, digit in enumerate(d[:17]))
    return -total % 10 == d[17] and len(set(d)) > 3


def loose_card(text: str) -> bool:
    """For a number that is called a card: 12 to 19 digits and Luhn."""
    number = digits_of(text)
    return 12 <= len(number) <= 19 and luhn.is_valid(number) and number[0] not in "0789"


def bank_account(text: str) -> bool:
    """An IBAN: the country's length and structure, and the checksum (ISO 13616, ISO 7064)."""
    return iban.is_valid(text, check_country=False)


def base58check(text: str) -> bool:
    """A Base58Check address of 25 bytes: the last four are a double SHA-256 of the others."""
    number = 0
    for char in text:
        if (value := _BASE58.get(char)) is None:
            return False
        number = number * 58 + value
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25)
    digest = hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()
    return digest[:4] == raw[21:]


def bech32(text: str) -> bool:
    """A bech32 or bech32m address by its checksum (BIP 173, BIP 350); cases may not be mixed."""
    if text not in (text.lower(), text.upper()):
        return False
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or len(data) < 6 or not all(char in _BECH32 for char in data):
        return False
    low, high = [ord(char) & 31 for char in prefix], [ord(char) >> 5 for char in prefix]
    return _polymod([*high, 0, *low, *(_BECH32[char] for char in data)]) in _BECH32_ENDS


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, step in enumerate(_BECH32_STEPS):
            check ^= step if top >> bit & 1 else 0
    return check


def wallet(text: str) -> bool:
    """A cryptocurrency address: hexadecimal (Ethereum), bech32, or Base58Check."""
    if text.startswith("0x"):
        return len(set(text[2:].lower())) > 4
    return base58check(text) or bech32(text)


def address4(text: str) -> bool:
    """Four octets that are an IPv4 address and not a version number.

    Versions have small numbers; of all addresses only one in forty stays below 100 everywhere.
    """
    return named_address(text) and max(map(int, text.split("."))) >= 100 and not _special(text)


def address(text: str) -> bool:
    """An IPv4 or IPv6 address that needs no words beside it."""
    return address6(text) if ":" in text else address4(text)


def named_address(text: str) -> bool:
    """Any IPv4 or IPv6 address but the unspecified one, for where the text calls it an address."""
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def address6(text: str) -> bool:
    """An IPv6 address that tells somebody from others: no documentation, loopback or bare prefix."""
    return named_address(text) and not _special(text) and _specific(text)


def _special(text: str) -> bool:
    address = ipaddress.ip_address(text)
    inside = isinstance(address, ipaddress.IPv6Address) and address in _DOCUMENTATION
    local = address.is_loopback or address.is_multicast or inside
    return local or text.startswith(("255.", "0.")) or text.endswith(("::", ".0.0.0"))


_DOCUMENTATION: Final = ipaddress.ip_network("2001:db8::/32")


def _specific(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not address.is_link_local or int(address) & (2**64 - 1) > 0xFFFF


def hardware_address(text: str) -> bool:
    """A MAC address (EUI-48 or EUI-64) that is no example such as ``aa:bb:cc:dd:ee:ff``."""
    pairs = re.split("[:-]", text.lower())
    steps = {int(b, 16) - int(a, 16) for a, b in itertools.pairwise(pairs)}
    return len(pairs) in (6, 8) and len(steps) > 1


def identifier(text: str) -> bool:
    """An identifier by its looks: five letters or digits at least, three of them digits."""
    kept = [char for char in text if char.isalnum()]
    return len(kept) >= 5 and sum(map(str.isdigit, kept)) >= 3 and len(set(kept)) > 2


def birth_date(text: str) -> bool:
    """A date with a day, a month and a year in which somebody alive may have been born, if it has digits only."""
    parts = [int(part) for part in re.split(r"[^0-9]+", text) if part]
    if len(parts) != 3 or re.search("[A-Za-z]", text):
        return True
    year, rest = (parts[0], parts[1:]) if parts[0] > 31 else (parts[2], parts[:2])
    return (
        1 <= min(rest) <= 12
        and max(rest) <= 31
        and (year < 100 or 1890 <= year <= datetime.now(tz=UTC).year)
    )
