"""Names and street addresses by light context: what introduces them, or how they are built."""
# ruff: noqa: PLR2004 - the numbers are those of the published formats, named where they stand

from collections.abc import Iterator
from typing import Final

from plugins.pii.labels import NO_NAMES
from plugins.pii.rule import Rule, rule

_NAME: Final = r"[A-Z][a-zA-Z'-]{1,24}"
_FULL: Final = (
    rf"\b{_NAME}(?:[ ](?:(?:de|van|von|der|den|di|la|le|el|al|bin|da|dos)[ ])?{_NAME}){{1,3}}"
)
_TITLE: Final = (
    r"\b(?:Mr|Ms|Dr|Mx|Mrs|Miss|Prof|Herr|Frau|Sig|Sig\.ra|Sra|Mme|Monsieur|Madame|Senora?)[. ][ ]?"
)


_TITLED: Final = rf"{_NAME}(?:[ ]{_NAME}){{0,3}}"
_LABEL: Final = (
    r"(?:\b|_)(?i:(?:full|first|last|sur|customer|patient|employee)?name)"
    r"(?:[\"']?[ ]?[:=|][ ]{0,3}[\"']?|>|[ ]is[ ]|[ ]\()"
)
_INTRODUCED: Final = (
    r"\b(?i:my name is|i am called|regards,|sincerely,|reply to|dear|signed by|patient|employee"
    r"|contact)[ \n]{1,2}"
)

_STREET: Final = (
    r"\b[0-9]{1,5}[A-Za-z]?,?[ ](?:[NSEW]\.?[ ])?(?:[A-Z0-9][\w'.-]{0,20}[ ]){1,4}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq"
    r"|Highway|Hwy|Parkway|Pkwy|Terrace|Close|Crescent|Way|Gardens|Grove|Mews)\b"
    r"(?:,?[ ](?:Apt|Apartment|Suite|Unit|Flat|#)\.?[ ]?[0-9A-Za-z]{1,6})?"
)
_NUMBER_LAST: Final = (
    r"\b(?:Rue|rue|Avenue|avenue|Via|Viale|Piazza|Corso|Calle|Plaza|Avenida|Paseo|Rua|ul\.|al\.|os\.|pl\.|Carrer)"
    r"[ ](?:[\w'.-]{1,24}[ ]){1,5}[0-9]{1,4}[A-Za-z]?\b"
)
_GERMANIC: Final = (
    r"\b[A-Z][a-z]{1,24}(?:strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer"
    r"|straat|laan|gatan|vagen|veien|gata|vej)[ ][0-9]{1,4}[a-z]?\b"
)
_ADDRESS: Final = r"[0-9A-Z][^\n|<>\"{}()\[\]=;]{6,70}[0-9A-Za-z]"
_ADDRESS_LABEL: Final = (
    r"(?:\b|_)(?i:address|adresse|anschrift|direccion|indirizzo)"
    r"(?:[\"']?[ ]?[:=|][ ]{0,3}[\"']?|>|[ ]is[ ])"
)


def named(text: str) -> bool:
    """Words of which none labels a thing rather than a person, and which are not shouted."""
    words = text.split()
    return not any(word.lower() in NO_NAMES or (len(word) > 3 and word.isupper()) for word in words)


def _addressed(text: str) -> bool:
    """A line with a number and a capitalised word is an address; a URL or an e-mail is not."""
    words = text.split()
    numbered = any(any(map(str.isdigit, word)) for word in words)
    named = sum(word[:1].isupper() for word in words)
    return numbered and named >= 1 and len(words) >= 2 and "@" not in text and "://" not in text


def rules() -> Iterator[Rule]:
    """Names after titles and labels; addresses by their words or after a label."""
    yield rule("person", _TITLED, "person", context=_TITLE, check=named, confidence=0.6)
    yield rule("person", _FULL, "person", context=_LABEL, check=named, confidence=0.6)
    yield rule("person", _FULL, "person", context=_INTRODUCED, check=named, confidence=0.5)
    for pattern in (_STREET, _NUMBER_LAST, _GERMANIC):
        yield rule("street-address", pattern, "person", "contact", confidence=0.6)
    yield rule(
        "street-address",
        _ADDRESS,
        "person",
        "contact",
        context=_ADDRESS_LABEL,
        check=_addressed,
        confidence=0.5,
    )
