"""A forward-secure chain of macs: who takes the process over cannot make anew what was written before.

``mac[i] = HMAC-SHA256(key[i], mac[i-1] + line[i])`` and ``key[i+1] = HMAC-SHA256(key[i], "next")``; key[i] is
overwritten as soon as it was used (Bellare and Yee, "Forward integrity for secure audit logs").
"""

import hashlib
import hmac
import secrets
from typing import Final

KEY_BYTES: Final = 32
_FIRST: Final = hashlib.sha256(b"outgate audit 1").digest()


def commitment(key: bytes) -> str:
    """Stands in the header, so that a wrong key is told from a changed record."""
    return hashlib.sha256(b"outgate audit key 1" + key).hexdigest()


class Chain:
    """The state of one segment's chain: the next key and the last mac."""

    __slots__ = ("_key", "mac")

    def __init__(self, start_key: bytes) -> None:
        self._key = bytearray(start_key)
        self.mac = _FIRST

    def seal(self, line: bytes) -> bytes:
        """The mac of the next line; the key it was made with is gone after that."""
        self.mac = hmac.digest(self._key, self.mac + line, "sha256")
        self._key[:] = _next(self._key)
        return self.mac

    def check(self, line: bytes, mac: str) -> bool:
        """Whether ``mac`` (hex) is the one of the next line, which counts as read if it is."""
        expected = hmac.digest(self._key, self.mac + line, "sha256")
        if not hmac.compare_digest(expected.hex(), mac):
            return False
        self.mac = expected
        self._key[:] = _next(self._key)
        return True

    def later_key(self, line: bytes, mac: str, most: int) -> int | None:
        """After how many more records the key would fit ``mac``: somebody used a later key for an earlier record."""
        key = bytes(self._key)
        for distance in range(1, most + 1):
            key = _next(key)
            if hmac.compare_digest(hmac.digest(key, self.mac + line, "sha256").hex(), mac):
                return distance
        return None

    def wipe(self) -> None:
        """Overwrite the key; nothing can be sealed any more."""
        self._key[:] = secrets.token_bytes(len(self._key))

    def __repr__(self) -> str:
        return "Chain(***)"


def _next(key: bytes | bytearray) -> bytes:
    return hmac.digest(key, b"next", "sha256")
