"""Why there is no TLS: what OpenSSL says, the setting it concerns, and what to do."""

import re
import ssl
from typing import Final

from proxy.egress.causes import Diagnosed

# Numbers of X509_V_ERR_*, which OpenSSL keeps.
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_NO_ISSUER: Final = (2, 18, 19, 20, 21)
_OTHER_NAME: Final = (62, 64)
#: Alerts by which a server refuses the certificate of its client (RFC 8446 section 6.2).
_OURS: Final = re.compile(r"ALERT_.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)")

_ISSUER_REMEDY: Final = (
    "If it is issued by your company, or by a proxy that opens TLS on the way, name the authority:"
    ' ca_bundle = "/path/authority.pem". If it is a public one, update the package certifi, or have the'
    " upstream send its intermediate certificates."
)


def not_trusted(error: ssl.SSLCertVerificationError) -> Diagnosed:
    """The upstream's certificate does not convince."""
    code, said = error.verify_code, error.verify_message
    hint, remedy = "", "Have the upstream's certificate put right."
    if code in _NO_ISSUER:
        hint, remedy = ": nobody who is trusted has issued it (see ca_bundle)", _ISSUER_REMEDY
    elif code in _OTHER_NAME:
        hint = " (see base_url)"
        remedy = "Write the host in base_url as the certificate names it, or have it issued for this name."
    elif code == _EXPIRED:
        remedy = (
            "Have the certificate renewed; if it is current, look at the clock of this machine."
        )
    elif code == _NOT_YET:
        remedy = "Look at the clock of this machine."
    detail = f"the upstream's certificate was not accepted: {said.rstrip('.')}{hint}"
    return Diagnosed("tls", detail, remedy)


def refuses_us(error: BaseException) -> bool:
    """Whether the server refused our certificate; in TLS 1.3 it says so after the handshake."""
    return isinstance(error, ssl.SSLError) and _OURS.search(error.reason or "") is not None


def no_handshake(error: ssl.SSLError) -> Diagnosed:
    """There is no TLS, although the upstream's certificate was not what was wrong."""
    reason = error.reason or "the handshake failed"
    if isinstance(error, ssl.SSLEOFError):
        detail = "no TLS connection: the other side hung up during the handshake"
        remedy = (
            "A firewall that filters by host name does this, and so does a port that takes no TLS: have it"
            " let this host through, or look at the port of base_url."
        )
    elif "CERTIFICATE_REQUIRED" in reason:
        detail = "the upstream asks for a client certificate, and was shown none (see client_cert)"
        remedy = "Set client_cert and client_key to a certificate that the upstream accepts."
    elif refuses_us(error):
        detail = f"the upstream refused the client certificate (see client_cert): {reason}"
        remedy = "Set client_cert and client_key to a certificate, with its chain, that the upstream accepts."
    elif reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        detail = f"no TLS connection: the other side does not speak TLS ({reason})"
        remedy = "Look at scheme and port of base_url; plain HTTP takes http:// and allow_private = true."
    elif reason in ("TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"):
        detail = f"no TLS connection: the upstream speaks no TLS 1.2 or newer ({reason})"
        remedy = "Have the upstream updated; older TLS is not spoken."
    elif "HANDSHAKE_FAILURE" in reason:
        detail = f"no TLS connection: the upstream refused the handshake ({reason})"
        remedy = "If it asks for a client certificate, set client_cert and client_key."
    else:
        detail = f"no TLS connection: {reason}"
        remedy = "Look at host and port of base_url, and at the log of the upstream."
    return Diagnosed("tls", detail, remedy)
