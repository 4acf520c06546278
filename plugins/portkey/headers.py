"""The headers of Portkey's SDKs: who is asked for, by which config, and with which labels."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.portkey.conditions import Facts
from proxy import Call

_PREFIX: Final = "x-portkey-"
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,128}\Z")
_DIGITS: Final = re.compile(r"[0-9]{1,7}\Z")
_LONGEST_LABEL: Final = 128
_MOST_LABELS: Final = 32
_PATHS: Final = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
}


def sent(call: Call) -> dict[str, str]:
    """The headers of this dialect, by which a caller shows that it speaks it."""
    return {name: value for name, value in call.headers.items() if name.startswith(_PREFIX)}


def is_name(text: str) -> bool:
    """Whether a header can carry it."""
    return _TOKEN.match(text) is not None


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """Kind → name, of those that are sent."""
    names = {
        kind: headers.get(f"{_PREFIX}{kind}", "")
        for kind in ("provider", "virtual-key", "custom-host")
    }
    names["custom-host"] = names["custom-host"].rstrip("/")
    return {kind: name for kind, name in names.items() if name}


def trace_of(headers: Mapping[str, str]) -> str:
    """The caller's own name for the call, or nothing."""
    trace = headers.get(f"{_PREFIX}trace-id", "")
    return trace if is_name(trace) else ""


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """The time in seconds that the caller gives an upstream, or None; whatever is no number is left out."""
    text = headers.get(f"{_PREFIX}request-timeout", "").strip()
    return int(text) / 1000 or None if _DIGITS.match(text) else None


def labels(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's own labels for the record, cut to a sane size; whatever is no text is left out."""
    found = [(key, value) for key, value in _metadata(headers).items() if isinstance(value, str)]
    return {key[:_LONGEST_LABEL]: value[:_LONGEST_LABEL] for key, value in found[:_MOST_LABELS]}


def facts(call: Call) -> Facts:
    """What conditions can ask about."""
    return {
        "metadata": _metadata(call.headers),
        "params": call.body,
        "url": {"pathname": _PATHS.get(call.endpoint, "/v1/models")},
    }


def _metadata(headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        value = json.loads(headers.get(f"{_PREFIX}metadata", ""))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
