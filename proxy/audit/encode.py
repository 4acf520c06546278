"""The body of a record as one line of ASCII JSON that every strict reader takes."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.audit.faults import AuditFault
from proxy.audit.records import LONGEST_LINE

_MOST_BYTES: Final = LONGEST_LINE // 2
_DEEPEST: Final = 100
_quick: Final = msgspec.json.Encoder(enc_hook=str).encode
_plain: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(fields: Mapping[str, Any]) -> bytes:
    """JSON of ``fields``; raises ``AuditFault`` for what has no end or is larger than a record may be.

    What JSON has no word for is written as text, or as null: numbers that are not finite.
    """
    try:
        encoded = _quick(fields)
    except (ValueError, TypeError, OverflowError, RecursionError):
        encoded = _plain(_cleaned(fields)).encode()
    if not encoded.isascii():  # what a terminal or a line reader would act upon is escaped
        encoded = _plain(msgspec.json.decode(encoded)).encode()
    encoded = encoded.replace(b"\x7f", b"\\u007f")
    if len(encoded) > _MOST_BYTES:
        raise AuditFault(f"a record of {len(encoded)} bytes is larger than {_MOST_BYTES}")
    return encoded


def _cleaned(value: Any, depth: int = 0) -> Any:
    """``value`` with whole characters, text keys and finite numbers only."""
    if depth > _DEEPEST:
        raise AuditFault("a record is nested too deeply")
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case Mapping():
            return {_cleaned(str(key)): _cleaned(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_cleaned(item, depth + 1) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case None | int():
            return value
        case msgspec.Struct():
            return _cleaned(msgspec.structs.asdict(value), depth + 1)
        case _:
            return str(value)
