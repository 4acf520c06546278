"""Texts of calls in the trail, only where ``[audit.content]`` says so: sealed here, opened by the auditor alone.

A text stands in its record as ``{"content": {"request": {"bytes": …, "to": …, "ephemeral": …, "box": …}}}``, see
``envelope``; it is bound to the call and to its side, so that it opens nowhere else.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Struct

from proxy.audit import keys
from proxy.audit.calls import CONTENT
from proxy.audit.envelope import EnvelopeError, fingerprint, seal, unseal
from proxy.audit.table import ContentTable

Side = Literal["request", "reply"]
SIDES: Final[tuple[Side, ...]] = ("request", "reply")
_PURPOSE: Final = b"audit content"


class Keeper:
    """Seals what the configuration says is kept; holds the public key and nothing that could open it again."""

    def __init__(self, table: ContentTable, where: str = "audit.content") -> None:
        """Raises ``ConfigError`` if the key cannot be used."""
        self._table = table
        self._to: X25519PublicKey = keys.sealing_public(table.to, f"{where}.to")

    def wants(self, side: Side) -> bool:
        """Whether this side of a call is kept at all."""
        return self._table.request if side == "request" else self._table.reply

    def sealed(self, id_: str, side: Side, text: bytes, size: int | None = None) -> dict[str, Any]:
        """The member for the record of call ``id_``, empty if this side is not kept.

        ``text`` is what was sent, after redaction: its first ``most_bytes`` bytes are kept. Who holds only a
        beginning of it says the ``size`` of the whole.
        """
        if not self.wants(side):
            return {}
        kept = text[: self._table.most_bytes]
        box = seal(kept, self._to, purpose=_PURPOSE, bound_to=_owner(id_, side))
        return {CONTENT: {side: {"bytes": len(text) if size is None else size, **box}}}


class Opened(Struct, frozen=True, kw_only=True):
    """A text as it was kept; ``bytes`` is the size it had, ``text`` may be shorter."""

    side: Side
    text: bytes
    bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing was cut off."""
        return len(self.text) == self.bytes


def opened(
    fields: Mapping[str, Any], id_: str, private: Mapping[str, X25519PrivateKey]
) -> Iterator[Opened]:
    """The texts in the fields of a call; ``private`` are keys by fingerprint, see ``by_fingerprint``.

    Raises ``EnvelopeError`` for a text that none of them opens.
    """
    content = fields.get(CONTENT)
    for side in SIDES:
        sealed = content.get(side) if isinstance(content, Mapping) else None
        if not isinstance(sealed, Mapping):
            continue
        key = private.get(str(sealed.get("to")))
        if key is None:
            raise EnvelopeError(
                f"the {side} is sealed to key {sealed.get('to')}, which is none of those given:"
                f" {', '.join(private) or 'none'}"
            )
        text = unseal(sealed, key, purpose=_PURPOSE, bound_to=_owner(id_, side))
        size = sealed.get("bytes")
        yield Opened(side=side, text=text, bytes=size if isinstance(size, int) else len(text))


def by_fingerprint(private: Iterable[X25519PrivateKey]) -> dict[str, X25519PrivateKey]:
    """Private keys by the name that envelopes have for them."""
    return {fingerprint(key.public_key().public_bytes_raw()): key for key in private}


def _owner(id_: str, side: Side) -> bytes:
    return json.dumps([id_, side]).encode()
