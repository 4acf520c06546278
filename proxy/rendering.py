"""A record as JSON for whoever stores it: never too long, never anything that a terminal or a reader would act upon."""

import json
import math
from itertools import islice
from typing import Any, Final

import msgspec

from proxy.records import Failure, Finding, Record, Usage, Verdict

_LONGEST_TEXT: Final = 512
_MOST_ITEMS: Final = 100
#: What nearly all keys are.
_NAMES: Final = frozenset(
    name for part in (Record, Verdict, Finding, Failure, Usage) for name in part.__struct_fields__
)
_WHOLE: Final = frozenset({int, bool, type(None)})


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
        return value if len(value) <= _LONGEST_TEXT and value.isascii() else _text(value)
    if isinstance(value, dict):
        return {
            key if key in _NAMES else _clipped(str(key)): item
            if type(item) in _WHOLE
            else _clipped(item)
            for key, item in islice(value.items(), _MOST_ITEMS)
        }
    if isinstance(value, list | tuple):
        return type(value)(map(_clipped, value[:_MOST_ITEMS]))
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(text: str) -> str:
    over = len(text) - _LONGEST_TEXT
    text = text if over <= 0 else f"{text[:_LONGEST_TEXT]}...(+{over})"
    return text.encode(errors="replace").decode()
