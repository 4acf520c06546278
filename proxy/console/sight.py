"""Texts as they may be shown: whatever is in a record, it is seen and does nothing."""

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

#: What one cell shows of a text; a record in full shows more.
SHORT: Final = 160
LONG: Final = 20_000
#: Control, format (directions, invisible ones), half surrogates, private, unassigned; line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def seen(text: str, most: int = SHORT) -> str:
    """``text`` cut to ``most`` characters, and written out where it would not be seen, as an escape."""
    over = len(text) - most
    shown = "".join(map(_visible, text[:most]))
    return shown if over <= 0 else f"{shown}… (+{over:,} characters)"


def _visible(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    if unicodedata.category(char) not in _UNSEEN:
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"  # noqa: PLR2004 - the end of the plane


def shown(value: Any) -> Any:
    """Applied to everything that a template prints, before it is escaped; only our own markup passes as it is."""
    if isinstance(value, Markup):
        return value
    return seen(str(value), LONG) if value is not None else "–"


def pretty(value: Any) -> Markup:
    """JSON on several lines, as ASCII, so that no character acts; cut where it is too long."""
    text = json.dumps(value, indent=2, default=str)
    over = len(text) - LONG
    cut = text if over <= 0 else f"{text[:LONG]}\n… (+{over:,} characters)"
    return Markup.escape(cut.replace("\x7f", "\\u007f"))


def clock(seconds: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment in UTC."""
    if seconds is None:
        return "–"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "–"


def count(number: float) -> str:
    """A number for people: 1,234 or 5.6 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if abs(number) >= size:
            divided = number / (1000 if unit == "k" else size)
            return f"{divided:,.1f} {unit}" if unit != "k" else f"{divided:,.0f} k"
    return f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """A time span for people: ``840 µs``, ``12.3 ms``, ``4.56 s``, ``2 min 5 s``."""
    if seconds is None:
        return "–"
    if seconds < 0.001:  # noqa: PLR2004 - a millisecond
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"  # noqa: PLR2004


def size(number: float | None) -> str:
    """A number of bytes for people."""
    if number is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024 or unit == "GiB":  # noqa: PLR2004 - the step of the units
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
