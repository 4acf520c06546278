"""Addresses of machines, which are somebody's machines."""

from collections.abc import Iterator
from typing import Final

from stdnum import luhn

from plugins.pii import checks
from plugins.pii.rule import Rule, beside, rule

# More octets and pairs than an address has are taken too, so that the check sees them and refuses.
_V4: Final = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3,5}\b"
_V6: Final = (
    r"\b(?:[0-9A-Fa-f]{1,4}:{1,2}){2,8}"
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b|[0-9A-Fa-f]{1,4}\b)"
)
_V6_MAPPED: Final = r"::(?:[Ff]{4}:)?(?:0{1,4}:)?[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"
_V6_NAMED: Final = r"(?:::|\b[0-9A-Fa-f]{1,4}:)[0-9A-Fa-f:.]{1,40}\b"
_MAC: Final = r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5,20}\b"
_CISCO: Final = r"\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b"
_WORDS: Final = (
    "ip", "ip addr(?:ess)?", "ip adresse", "ipv[46]", "source (?:ip|addr|address)", "client (?:ip|addr)",
    "remote (?:ip|addr)", "host (?:ip|addr)", "x forwarded for",
)  # fmt: skip
_UUID: Final = r"\b(?i:[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12})\b"
_DEVICES: Final = (
    ("imsi", r"\b[0-9]{14,15}\b", ("imsi",), checks.standard("imsi")),
    ("iccid", r"\b89[0-9]{17,18}\b", ("iccid", "sim (?:card|number|serial)"), luhn.is_valid),
    ("advertising-id", _UUID, ("idfa", "gaid", "adid", "advertising id", "device id"), None),
)


def rules() -> Iterator[Rule]:
    """IPv4, IPv6 and hardware addresses; what the text calls an address may be a special one."""
    yield rule("ip-address", f"(?:{_V4}|{_V6}|{_V6_MAPPED})", "network", check=checks.address)
    yield from beside(
        "ip-address",
        f"(?:{_V4}|{_V6_NAMED})",
        "network",
        phrases=_WORDS,
        digits=False,
        check=checks.named_address,
    )
    yield rule("mac-address", _MAC, "network", check=checks.hardware_address)
    yield from beside("mac-address", _CISCO, "network", phrases=("mac",), digits=False)
    for kind, pattern, phrases, check in _DEVICES:
        yield from beside(kind, pattern, "network", phrases=phrases, digits=False, check=check)
    yield from beside(
        "imei",
        r"\b[0-9]{2}-?[0-9]{6}-?[0-9]{6}-?[0-9]\b",
        "network",
        phrases=("imei",),
        check=checks.standard("imei"),
    )
