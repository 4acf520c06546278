"""What several chats cost together."""

from collections.abc import Iterable, Mapping
from typing import Any


def total(counts: Iterable[Any]) -> dict[str, Any] | None:
    """The usage of all parts, number by number; None as soon as one did not tell its own."""
    found: dict[str, Any] = {}
    for usage in counts:
        if not isinstance(usage, Mapping):
            return None
        _add(found, usage)
    return found or None


def _add(found: dict[str, Any], usage: Mapping[str, Any]) -> None:
    for key, value in usage.items():
        if isinstance(value, Mapping):
            if found.get(key) is None:
                found[key] = {}
            if isinstance(found[key], dict):
                _add(found[key], value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known = found.get(key)
            found[key] = value + known if isinstance(known, int | float) else value
        else:
            found.setdefault(key, value)
