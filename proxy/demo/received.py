"""Remembers the last requests an upstream received, with every credential masked."""

import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

_SECRET = re.compile(r"auth|key|token|secret|cookie|credential|password", re.IGNORECASE)
_MASK = "***"
_SHOWN = 4
_LONG_ENOUGH = 8
_BODY = 256 * 1024  # bytes kept of one body


def fingerprint(credential: str) -> str:
    """The first four characters of a credential, none at all of a very short one."""
    return (credential[:_SHOWN] if len(credential) >= _LONG_ENOUGH else "") + "…"


def bearer(authorization: str) -> str:
    """The credential in an Authorization header, with or without its scheme."""
    scheme, _, rest = authorization.strip().partition(" ")
    return rest.strip() if rest and scheme.lower() == "bearer" else authorization.strip()


class Received:
    """The last `keep` requests, oldest first; safe for use by many threads."""

    def __init__(self, keep: int) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=keep)
        self._lock = threading.Lock()

    def note(self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Remember one request; of a very long body only the beginning."""
        found = {name.lower(): value for name, value in headers}
        entry = {
            "at": time.time(),
            "method": method,
            "path": path,
            "headers": _masked(found),
            "credential": _credential(found),
            "body": body[:_BODY].decode("utf-8", "replace"),
            "body_bytes": len(body),
        }
        with self._lock:
            self._entries.append(entry)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last `count` requests, oldest first."""
        with self._lock:
            entries = list(self._entries)
        return entries[max(0, len(entries) - count) :]


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: _MASK if _SECRET.search(name) else value for name, value in headers.items()}


def _credential(headers: Mapping[str, str]) -> str | None:
    for name in ("authorization", "api-key", "x-api-key"):
        credential = bearer(headers.get(name, ""))
        if credential:
            return fingerprint(credential)
    return None
