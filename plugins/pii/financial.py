"""Cards, bank accounts, wallets: what money moves by."""

from collections.abc import Iterator
from typing import Final

from plugins.pii import checks
from plugins.pii.rule import Rule, beside, digits, rule

# IBAN lengths by country (SWIFT IBAN registry).
_LENGTHS: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK MN",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_CARD: Final = (
    r"\b(?:[2-6][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}"
    r"|[2-6][0-9]{12,18})\b"
)
_WALLET: Final = (
    r"\b(?:0x[0-9a-fA-F]{40}|[13DLMTXrt9A][1-9A-HJ-NP-Za-km-z]{25,34}"
    r"|(?:bc|tb|ltc|addr|cosmos)1[02-9ac-hj-np-z]{30,98}|BC1[02-9AC-HJ-NP-Z]{30,87})\b"
)
_CARD_WORDS: Final = (
    "card", "credit card", "debit card", "cc num(?:ber)?", "cc no", "cc", "kreditkarte",
    "carte bancaire", "tarjeta", "carta di credito", "visa", "mastercard", "amex",
    "american express", "maestro",
)  # fmt: skip
_ACCOUNT_WORDS: Final = (
    "account (?:number|num|no|nr|#)", "acct (?:number|num|no|#)", "bank account", "accnum",
    "checking", "savings", "kontonummer", "numero de compte", "numero de cuenta", "rekeningnummer",
)  # fmt: skip
_ACCOUNT: Final = r"\b[A-Z]{0,10}[0-9](?:[ -]?[0-9]){4,17}[A-Z]{0,2}\b"

# Accounts and branches by their national names.
_BRANCHES: Final = (
    ("bsb", "AU", r"\b[0-9]{3}-?[0-9]{3}\b", ("bsb",), None),
    ("bank-code", "DE", r"\b[1-8][0-9]{2} ?[0-9]{3} ?[0-9]{2}\b", ("blz", "bankleitzahl"), None),
    ("ifsc", "IN", r"\b[A-Z]{4}0[A-Z0-9]{6}\b", ("ifsc",), None),
    ("clabe", "MX", digits(18), ("clabe",), checks.clabe),
    ("bank-account", "FR", r"\b[0-9]{5} ?[0-9]{5} ?[0-9A-Z]{11} ?[0-9]{2}\b", ("rib", "releve d'identite"), None),
    ("bank-account", "ES", digits(20), ("ccc", "cuenta (?:corriente|bancaria)"), checks.standard("es.ccc")),
    ("bank-account", "NO", r"\b[0-9]{4}[. ]?[0-9]{2}[. ]?[0-9]{5}\b", ("kontonr", "kontonummer"),
        checks.standard("no.kontonr")),
    ("bank-account", "NZ", r"\b[0-9]{2}-?[0-9]{4}-?[0-9]{7}-?[0-9]{2,3}\b", ("bank account", "account~number"),
        checks.standard("nz.bankaccount")),
    ("transit-number", "CA", r"\b[0-9]{5}-[0-9]{3}\b", ("transit (?:number|no)", "institution (?:number|no)"), None),
)  # fmt: skip
_UPI: Final = (
    r"\b[A-Za-z0-9][\w.-]{1,60}@(?:ok(?:axis|sbi|hdfcbank|icici)|ybl|ibl|axl|paytm|upi|apl|yapl|axisb|hdfcbank"
    r"|icici|sbi|kotak|barodampay|ptyes|ptsbi|ptaxis|pthdfc)\b"
)


def _iban() -> str:
    choices = (
        f"(?:{names.replace(' ', '|')})[0-9]{{2}}" + _grouped(length - 4)
        for length, names in _LENGTHS.items()
    )
    return rf"\b(?i:{'|'.join(choices)})\b"


def _grouped(count: int) -> str:
    """``count`` letters or digits, alone or in groups of four."""
    fours, rest = divmod(count, 4)
    tail = f"[ -]?[A-Z0-9]{{{rest}}}" if rest else ""
    return f"(?:[ -]?[A-Z0-9]{{4}}){{{fours}}}{tail}"


def rules() -> Iterator[Rule]:
    """Cards, IBANs and wallets by their checksums; routing and account numbers by context."""
    yield rule("card", _CARD, "financial", check=checks.card)
    yield from beside(
        "card",
        digits(12, 19, " ._-"),
        "financial",
        phrases=_CARD_WORDS,
        check=checks.loose_card,
    )
    yield rule("iban", _iban(), "financial", check=checks.bank_account)
    yield rule("crypto-address", _WALLET, "financial", check=checks.wallet)
    yield from beside(
        "bank-account",
        _ACCOUNT,
        "financial",
        phrases=_ACCOUNT_WORDS,
        digits=False,
        check=checks.identifier,
        confidence=0.8,
    )
    yield from _routing()
    yield from _payment()


def _routing() -> Iterator[Rule]:
    yield from beside(
        "aba-routing-number",
        r"\b[0-3][0-9]{8}\b",
        "financial",
        country="US",
        phrases=("routing", "aba", "rtn"),
        check=checks.standard("us.rtn"),
    )
    yield from beside(
        "sort-code",
        r"\b[0-9]{2}[- ]?[0-9]{2}[- ]?[0-9]{2}\b",
        "financial",
        country="GB",
        phrases=("sort~code",),
    )
    yield from beside(
        "bic",
        r"\b[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b",
        "financial",
        phrases=("bic", "swift"),
        digits=False,
        check=checks.standard("bic"),
    )
    for kind, country, pattern, phrases, check in _BRANCHES:
        yield from beside(
            kind, pattern, "financial", country=country, phrases=phrases, digits=False, check=check
        )


def _payment() -> Iterator[Rule]:
    yield from beside(
        "upi-id", _UPI, "financial", country="IN", phrases=("upi", "vpa"), digits=False
    )
    yield from beside(
        "crypto-address",
        r"\b[1-9A-HJ-NP-Za-km-z]{40,95}\b",
        "financial",
        phrases=("wallet", "solana", "monero", "crypto address", "deposit address"),
        digits=False,
        check=checks.identifier,
    )
    yield from beside(
        "cvv",
        r"\b[0-9]{3,4}\b",
        "financial",
        phrases=("cvv2?", "cvc2?", "card verification (?:code|value)", "security code"),
    )
