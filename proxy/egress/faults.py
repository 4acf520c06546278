"""One word for everything that can go wrong on the way to an upstream."""

import os
import ssl
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Final

import urllib3.exceptions

from proxy.egress.attempt import Attempt, Stage
from proxy.egress.causes import Diagnosed
from proxy.egress.reader import Malformed
from proxy.egress.tls_faults import no_handshake, not_trusted, refuses_us
from proxy.errors import OutgateError, UpstreamError

# What the layers below raise for a bad upstream; anything else is a fault of ours and stays visible.
FAULTS: Final = (urllib3.exceptions.HTTPError, HTTPException, OSError, OutgateError)

_ENDED: Final = {
    "client_gone": "the client hung up",
    "deadline": "the call's total time is over",
    "draining": "this process is stopping",
}
_TIMEOUTS: Final = {
    "answer": ("timeout_first_byte", "no answer within the first-byte timeout"),
    "body": ("timeout_idle", "the answer fell silent for longer than the idle timeout"),
}


def ended(reason: str, *, received: bool) -> UpstreamError:
    """The error of a call that was cancelled for ``reason``."""
    return UpstreamError(reason, _ENDED[reason], bytes_received=received)


def explain(error: BaseException, attempt: Attempt) -> UpstreamError:
    """``error`` as an ``UpstreamError``; its detail is made here and never quotes the upstream or a header."""
    if attempt.handle.reason is not None:
        return ended(attempt.handle.reason, received=attempt.received)
    if isinstance(error, UpstreamError):
        return error
    if attempt.stage == "connect":
        return _unconnected(error, attempt)
    if isinstance(error, ssl.SSLError) and refuses_us(error):
        return no_handshake(error)
    kind, detail = _describe(error, attempt.stage)
    return UpstreamError(kind, detail, bytes_received=attempt.received)


def is_lost(error: BaseException, attempt: Attempt) -> bool:
    """Whether a reused connection died before one byte came back: the one case that is tried again.

    RFC 9112 section 9.3.1: the upstream may close an idle connection at the moment a request is sent.
    """
    died = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return died and attempt.reused and not attempt.received and attempt.handle.reason is None


def _unconnected(root: BaseException, attempt: Attempt) -> UpstreamError:
    """Why there is no connection."""
    if isinstance(root, TimeoutError):
        return Diagnosed(
            "timeout_connect",
            f"{attempt.awaits} took longer than the connect timeout",
            "A firewall that drops packets looks like this: have it let this machine through, or set"
            " outbound_proxy. If the other side is only slow, raise timeouts.connect.",
        )
    if isinstance(root, ssl.SSLCertVerificationError):
        return not_trusted(root)
    if isinstance(root, ssl.SSLError):
        return no_handshake(root)
    return Diagnosed(
        "connect",
        f"{attempt.awaits} failed: {_system_text(root)}",
        "Look whether it runs, whether host and port are right, and whether a firewall lets this"
        " machine through; if only a proxy leads out of this network, set outbound_proxy.",
    )


def _describe(root: BaseException, stage: Stage) -> tuple[str, str]:
    if isinstance(root, TimeoutError):
        return _TIMEOUTS[stage]
    if isinstance(root, Malformed):
        return "protocol", str(root)
    if isinstance(root, RemoteDisconnected):
        return "cut", str(root)
    if isinstance(root, IncompleteRead):
        return "cut", "the answer ended before its end"
    return "cut", f"the connection broke: {_system_text(root)}"


def _system_text(root: BaseException) -> str:
    if isinstance(root, ssl.SSLError):
        return root.reason or "the other side hung up"  # its number is not the system's
    if isinstance(root, OSError) and root.errno:
        return os.strerror(root.errno)
    return type(root).__name__
