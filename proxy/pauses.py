"""How long to wait before another try: what the upstream asks for, and what nobody asked for."""

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds; whoever asks for more asks for ever, and a record holds no number without an end.
_LONGEST: Final = 31_536_000.0


def asked_pause(headers: Iterable[tuple[str, str]]) -> float | None:
    """The pause in seconds that ``retry-after-ms`` or ``retry-after`` (RFC 9110 section 10.2.3) asks for."""
    named = dict(headers)
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = named.get(name, "").strip()
        if text.isascii() and text.replace(".", "", 1).isdigit():
            return min(float(text) * unit, _LONGEST)
    return _until(named.get("retry-after", ""))


def _until(date: str) -> float | None:
    try:
        seconds = parsedate_to_datetime(date).timestamp() - time.time()
        return min(max(0.0, seconds), _LONGEST)
    except (ValueError, TypeError, OverflowError):
        return None
