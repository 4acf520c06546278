"""A record as JSON for whoever stores it: never too long, never anything that a terminal or a reader would act upon."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.records import Record

_LONGEST_TEXT: Final = 512
_MOST_ITEMS: Final = 100


def record_line(record: Record) -> bytes:
    """The record as one line of ASCII; ``"clipped": true`` where a text or a list was too long for it.

    Valid JSON to strict readers, whatever is in the notes: no NaN, no half surrogates, no control characters.
    """
    shown = rendered(record)
    return json.dumps(shown, separators=(",", ":")).replace("\x7f", "\\u007f").encode() + b"\n"


def rendered(record: Record) -> dict[str, Any]:
    """What ``record_line`` writes, as values that JSON has."""
    whole = msgspec.to_builtins(record, enc_hook=str)
    shown: dict[str, Any] = _clipped(whole)
    return {**shown, "clipped": True} if shown != whole else shown


def _clipped(value: Any) -> Any:
    """``value`` with long texts and lists cut, and without what strict JSON cannot hold."""
    if isinstance(value, str):
        over = len(value) - _LONGEST_TEXT
        text = value if over <= 0 else f"{value[:_LONGEST_TEXT]}...(+{over})"
        return text.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {
            _clipped(str(key)): _clipped(item) for key, item in list(value.items())[:_MOST_ITEMS]
        }
    if isinstance(value, list | tuple):
        return type(value)(_clipped(item) for item in value[:_MOST_ITEMS])
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
