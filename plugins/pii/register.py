"""What is known of one register that gives out numbers, and the words that many registers share."""

from typing import Final, NamedTuple


class Register(NamedTuple):
    """Numbers that one register gives out.

    ``modules`` are python-stdnum's validators, one of which must agree; without any, ``numbering`` or the
    words decide. ``bare`` are the shapes, divided by ``|``, of numbers that need no words beside them:
    9 is a digit, A a capital, a a small letter. Chance must rarely meet shape and checksum together.
    """

    country: str
    kind: str
    modules: str
    core: str
    phrases: tuple[str, ...]
    bare: str = ""


ID: Final = ("national id", "identity (?:number|card|no)", "id (?:card|number)")
TAX: Final = ("tax (?:payer)? id(?:entification)?", "tax number", "tax file number")
VAT: Final = ("vat", "tax (?:id|number)")
