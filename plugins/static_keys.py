"""Callers' keys written in the configuration: as a secret from outside it, or as a SHA-256 digest."""

import hashlib
import hmac
from dataclasses import dataclass, field

from proxy import ConfigError, Principal, Request, Secret, hookimpl

_DIGEST_LENGTH = 64
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Key:
    """One caller: ``key`` (from env or file) or ``sha256`` (64 hex digits of the key's digest)."""

    name: str
    groups: tuple[str, ...] = ()
    key: Secret | None = None
    sha256: str | None = None

    def digest(self) -> bytes:
        """The key's SHA-256; raises ``ConfigError`` when the entry does not say exactly one key."""
        if (self.key is None) == (self.sha256 is None):
            raise ConfigError(
                f'key {self.name!r}: write either key = {{ env = "NAME" }} or sha256 = "…", not both'
            )
        if self.key is not None:
            if len(self.key.reveal()) < _SHORTEST_KEY:
                raise ConfigError(
                    f"key {self.name!r}: shorter than {_SHORTEST_KEY} characters can be guessed"
                )
            return _digest(self.key)
        try:
            raw = bytes.fromhex(self.sha256 or "")
        except ValueError:
            raw = b""
        if len(raw) * 2 != _DIGEST_LENGTH:
            raise ConfigError(
                f"key {self.name!r}: sha256 must be {_DIGEST_LENGTH} hex digits: printf %s KEY | sha256sum"
            )
        if raw == _digest(Secret("")):
            raise ConfigError(
                f"key {self.name!r}: sha256 is the digest of an empty text: was KEY set?"
            )
        return raw


@dataclass(frozen=True)
class StaticKeys:
    """``[plugins.options] keys``: who may call."""

    keys: tuple[Key, ...]
    _known: tuple[tuple[bytes, Principal], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Digest every key once; two entries with the same key could not be told apart."""
        known = tuple((key.digest(), Principal(key.name, key.groups)) for key in self.keys)
        if len({digest for digest, _ in known}) != len(known):
            raise ConfigError("two entries hold the same key: give each caller a key of its own")
        if not known:
            raise ConfigError("keys is empty: add at least one { name = …, key = … }")
        object.__setattr__(self, "_known", known)

    @hookimpl
    def identify(self, request: Request) -> Principal | None:
        """Compare with every known digest, so that the time taken says nothing about which one fits."""
        if not request.credentials.caller:
            return None
        shown = _digest(request.credentials.caller)
        found = None
        for digest, principal in self._known:
            if hmac.compare_digest(digest, shown):
                found = principal
        return found


def _digest(key: Secret) -> bytes:
    return hashlib.sha256(key.reveal().encode()).digest()
