"""Sealing bytes to the holder of an X25519 private key, so that who sealed them cannot read them back.

An ephemeral X25519 key agrees with the recipient's, HKDF-SHA256 makes of that one key for AES-256-GCM, and that key
is used once (RFC 7748, RFC 5869, NIST SP 800-38D).
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: The key encrypts one text only, so that its nonce need not differ.
_NONCE: Final = bytes(12)


class EnvelopeError(ValueError):
    """An envelope that this key does not open; the message names no secret."""


def fingerprint(public: bytes) -> str:
    """A short name of a public key (32 raw bytes): the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def seal(plain: bytes, to: X25519PublicKey, *, purpose: bytes, bound_to: bytes) -> dict[str, str]:
    """``plain`` for the holder of ``to``'s private key, as members for JSON.

    It opens only with the same ``purpose`` (which kind of thing it is) and ``bound_to`` (whose it is).
    """
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    key = _key(ephemeral.exchange(to), public, to.public_bytes_raw(), purpose)
    box = AESGCM(key).encrypt(_NONCE, plain, bound_to)
    return {
        "to": fingerprint(to.public_bytes_raw()),
        "ephemeral": base64.b64encode(public).decode(),
        "box": base64.b64encode(box).decode(),
    }


def unseal(
    sealed: Mapping[str, str], private: X25519PrivateKey, *, purpose: bytes, bound_to: bytes
) -> bytes:
    """What was sealed; raises ``EnvelopeError`` for another key, another owner, or a changed envelope."""
    own = private.public_key().public_bytes_raw()
    if sealed.get("to") != fingerprint(own):
        raise EnvelopeError(
            f"sealed to key {sealed.get('to')}, but this is key {fingerprint(own)}: use the private key of that one"
        )
    try:
        public = base64.b64decode(sealed["ephemeral"], validate=True)
        box = base64.b64decode(sealed["box"], validate=True)
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        return AESGCM(_key(shared, public, own, purpose)).decrypt(_NONCE, box, bound_to)
    except (KeyError, TypeError, ValueError, binascii.Error, InvalidTag):
        raise EnvelopeError("the envelope was changed, or belongs to something else") from None


def _key(shared: bytes, ephemeral: bytes, recipient: bytes, purpose: bytes) -> bytes:
    info = b"outgate " + purpose + b" 1" + ephemeral + recipient
    return HKDF(SHA256(), 32, salt=None, info=info).derive(shared)
