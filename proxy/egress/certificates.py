"""What a TLS connection showed: the certificate, and whether ours was asked for."""

import ssl
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from msgspec import Struct

# Handshake messages (RFC 8446 section 4); the one that carries no certificate at all is shorter than any that does.
_CERTIFICATE: Final = 11
_REQUEST: Final = 13
_EMPTY: Final = 16
_LONGEST: Final = 120


class Certificate(Struct, frozen=True):
    """A server's certificate in short; names are as RFC 4514 writes them, made safe to print."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    expires: str
    days_left: int


class TLS(Struct, frozen=True, kw_only=True):
    """A TLS connection.

    Attributes:
        authorities: ``certifi``, or the ``ca_bundle`` that was asked instead.
        client_certificate: ``shown``, ``not asked for``, ``asked for, none configured``, or ``none``.

    """

    version: str | None
    certificate: Certificate | None
    verified: bool
    authorities: str
    client_certificate: str


class Talk:
    """Listens to the handshakes of a context; ``asked`` tells whether the server wanted a certificate of ours."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.asked = False
        self.shown = False
        if context is not None:
            # Without a public name in the standard library; nothing but this report depends on it.
            context._msg_callback = self._hear  # type: ignore[attr-defined]  # noqa: SLF001

    def _hear(self, *message: Any) -> None:
        _, direction, _, _, kind, data = message
        if direction == "read" and kind == _REQUEST:
            self.asked = True
        elif direction == "write" and kind == _CERTIFICATE and len(data) > _EMPTY:
            self.shown = True

    def outcome(self, *, configured: bool) -> str:
        """What became of the client certificate, in words."""
        if self.shown:
            return "shown"
        if self.asked:
            return "asked for, not shown" if configured else "asked for, none configured"
        return "not asked for" if configured else "none"


def unverified() -> ssl.SSLContext:
    """For a look at a certificate that was refused already; it has no certificate of ours to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(der: bytes | None) -> Certificate | None:
    """A certificate as it came over the wire, or None if nobody can read it."""
    try:
        found = x509.load_der_x509_certificate(der or b"")
        expires = found.not_valid_after_utc
        return Certificate(
            subject=_plain(found.subject.rfc4514_string()),
            issuer=_plain(found.issuer.rfc4514_string()),
            names=_names(found),
            expires=expires.isoformat(),
            days_left=(expires - datetime.now(UTC)).days,
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_plain(str(name.value)) for name in names)[:_LONGEST]


def _plain(text: str) -> str:
    """A stranger's text for a terminal: no control characters, and not long."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
