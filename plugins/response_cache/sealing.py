"""Answers at rest: each encrypted with a key that only who can say the same call can make."""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

_HALF: Final = 32
_NONCE: Final = 12
_INFO: Final = b"outgate response cache 1"
#: Seconds by which the clock of another machine may be ahead.
_SKEW: Final = 5.0


class Damaged(Exception):
    """What is stored is not what was sealed."""


class Entry(Struct, frozen=True):
    """An answer, when it was kept (seconds since 1970), and whether it came as a stream."""

    at: float
    streamed: bool
    body: Mapping[str, Any]

    def age(self, now: float, most: float) -> float | None:
        """How old it is in seconds; None if that is ``most`` or more, or if it is from the future."""
        age = now - self.at
        return max(age, 0.0) if -_SKEW <= age < most else None


class Seal:
    """The place of one call's answer, and the key to it.

    Both are derived from ``secret`` and from ``message``, which is the call itself (HKDF-SHA256, RFC 5869): without
    the secret no place tells of a call, and with it and everything that is stored, but without the call, no answer
    can be read.
    """

    def __init__(self, secret: bytes, message: bytes) -> None:
        derived = HKDF(SHA256(), 2 * _HALF, salt=secret, info=_INFO).derive(message)
        self.place = derived[:_HALF]
        self._cipher = AESGCM(derived[_HALF:])

    def close(self, entry: Entry) -> bytes:
        """``entry`` as it is stored."""
        text = json.dumps([entry.at, entry.streamed, entry.body], separators=(",", ":"))
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), self.place)

    def open(self, sealed: bytes) -> Entry:
        """The entry that was stored; raises ``Damaged``."""
        try:
            text = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self.place)
        except (InvalidTag, ValueError):
            raise Damaged("an entry is damaged") from None
        return Entry(*json.loads(text))
