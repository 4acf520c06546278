"""Papers and files with a number: passports, licences, insurance and medical records, by their names."""

from collections.abc import Iterator
from typing import Final

from plugins.pii import checks
from plugins.pii.rule import Rule, beside, rule

# Letters, digits and single separators, with a digit among the first nine characters.
_NUMBER: Final = (
    r"\b[A-Za-z]{0,8}[-_:#]?[A-Z]{0,3}[0-9][A-Za-z0-9]{1,18}(?:[-/][A-Za-z0-9]{1,12}){0,4}\b"
    r"(?:[ ][0-9]{2,6}){0,3}"
)
_KINDS: Final = (
    ("passport", "government", ("passport", "reisepass(?:nummer)?", "pasaporte", "passeport", "passaporto",
        "paspoort", "passnummer", "pasaport", "passaporte", "paszport", "pasapor", "utlevel")),
    ("driver-licence", "government", ("driver'?s?'? licen[cs]e", "driving licen[cs]e",
        "licen[cs]e (?:number|plate|no)", "dl (?:number|no)", "fuhrerschein(?:nummer)?", "permis~de",
        "carnet de conducir", "licencia de conducir", "patente di guida", "rijbewijs", "driver licen[cs]e",
        "prawo jazdy", "korkort", "forerkort", "ajokortti", "cnh")),
    ("identity-card", "government", ("personalausweis(?:nummer)?", "ausweis(?:nummer)?", "carta d'?identita",
        "identity card", "id card", "national id(?:entity)?(?: number| card)?", "identification number",
        "carte d'?identite", "cedula", "voter(?:'?s)? id", "voter (?:card|number)")),
    ("tax-number", "government", ("tax (?:payer)? id(?:entification)?(?: number)?", "tin", "itin", "atin",
        "pan number", "tax (?:number|no)")),
    ("social-security-number", "government", ("ssn", "social security", "sozialversicherungsnummer", "rvnr",
        "versicherungsnummer", "aadh?aa?r", "rentenversicherung")),
    ("medical-record-number", "health", ("mrn", "medical record", "patient (?:id|number|no|identifier)",
        "health (?:card|record) number", "chart number", "patienten nummer")),
    ("health-insurance-number", "health", ("health insurance", "insurance (?:number|id|policy|no)",
        "policy~(?:number|no)", "member id", "medicare", "medicaid", "mbi", "kvnr", "krankenversicherung",
        "krankenkasse", "egk", "npi", "dea",
        "medical licen[cs]e")),
    ("employee-id", "employment", ("employee (?:id|number|no)(?: number)?", "staff (?:id|number)",
        "personnel number", "badge (?:id|number)", "payroll number", "student (?:id|number)", "matrikelnummer")),
    ("customer-id", "business", ("customer (?:number|id)", "user~id", "userid", "case~number",
        "membership number")),
)  # fmt: skip
_VEHICLE: Final = (
    "registration (?:number|plate|mark|no)", "number~plate", "licen[cs]e plate", "kennzeichen",
    "matricula", "targa", "vrn", "kenteken", "immatriculation",
)  # fmt: skip
_PLATE: Final = r"\b[A-Z0-9]{1,4}[ -]?[A-Z0-9]{1,4}(?:[ -]?[A-Z0-9]{1,5}){0,2}\b"
_INDIAN_PLATE: Final = (
    r"\b(?:A[NPRS]|BR|C[GH]|D[DLN]|G[AJ]|H[PR]|J[HK]|K[AL]|L[AD]|M[HLNPZ]|NL|O[DR]|P[BY]|RJ|SK|T[NRS]|U[KP]|WB)"
    r"[ -]?[0-9]{2}[ -]?[A-Z]{1,3}[ -]?[0-9]{4}\b"
)
_VIN: Final = r"\b[A-HJ-NPR-Z0-9]{17}\b"
_CHASSIS: Final = (
    "vin",
    "vehicle identification",
    "chassis (?:number|no)",
    "fahrgestellnummer",
    "numero de chasis",
)
_MONTH: Final = r"(?i:jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]{0,6}\.?"
_DATE: Final = (
    r"\b(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/. ]{1,2}[0-9]{1,2}[-/. ]{1,2}[0-9]{2,4}"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th|\.)?[ -](?:of )?{_MONTH}[ ,-]{{1,2}}[0-9]{{2,4}}"
    rf"|{_MONTH}[ ][0-9]{{1,2}}(?:st|nd|rd|th)?,?[ ][0-9]{{4}})\b"
)
_BORN: Final = (
    "date of birth", "birth ?date", "dob", "d\\.o\\.b", "birthday", "born", "geboren",
    "geburts(?:datum|tag)", "date de naissance", "nee~le", "ne~le", "fecha de nacimiento",
    "nacid[oa](?: el)?", "data di nascita", "nat[oa] il", "geboortedatum", "data de nascimento",
)  # fmt: skip


def rules() -> Iterator[Rule]:
    """Numbers by the words beside them, dates of birth."""
    for kind, group, phrases in _KINDS:
        yield from beside(
            kind,
            _NUMBER,
            group,
            phrases=phrases,
            digits=False,
            check=checks.identifier,
            confidence=0.8,
        )
    yield from beside(
        "vehicle-registration",
        _PLATE,
        "vehicle",
        phrases=_VEHICLE,
        digits=False,
        check=plate,
        confidence=0.8,
    )
    yield rule("vehicle-registration", _INDIAN_PLATE, "vehicle", country="IN")
    yield from beside(
        "vin", _VIN, "vehicle", phrases=_CHASSIS, digits=False, check=checks.identifier
    )
    yield from beside("date-of-birth", _DATE, "health", phrases=_BORN, check=checks.birth_date)


def plate(text: str) -> bool:
    """Letters and digits, five to ten of them."""
    kept = [char for char in text if char.isalnum()]
    mixed = any(map(str.isdigit, kept)) and any(map(str.isalpha, kept))
    return mixed and len(kept) in range(5, 11)
