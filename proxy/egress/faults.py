"""One word for everything that can go wrong on the way to an upstream."""

import os
import ssl
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Final

import urllib3.exceptions

from proxy.egress.attempt import Attempt, Stage
from proxy.egress.reader import Malformed
from proxy.errors import OutgateError, UpstreamError

# What the layers below raise for a bad upstream; anything else is a fault of ours and stays visible.
FAULTS: Final = (urllib3.exceptions.HTTPError, HTTPException, OSError, OutgateError)

_ENDED: Final = {
    "client_gone": "the client hung up",
    "deadline": "the call's total time is over",
    "draining": "this process is stopping",
}
_TIMEOUTS: Final[dict[Stage, tuple[str, str]]] = {
    "connect": ("timeout_connect", "no connection within the connect timeout"),
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
    kind, detail = _describe(_root(error), attempt.stage)
    return UpstreamError(kind, detail, bytes_received=attempt.received)


def is_lost(error: BaseException, attempt: Attempt) -> bool:
    """Whether a reused connection died before one byte came back: the one case that is tried again.

    RFC 9112 section 9.3.1: the upstream may close an idle connection at the moment a request is sent.
    """
    root = _root(error)
    died = isinstance(root, OSError) and not isinstance(root, TimeoutError)
    return died and attempt.reused and not attempt.received and attempt.handle.reason is None


def _root(error: BaseException) -> BaseException:
    """The error that urllib3 wrapped, perhaps twice."""
    while isinstance(error, urllib3.exceptions.HTTPError):
        inner = error.__cause__ or next(
            (arg for arg in error.args if isinstance(arg, Exception)), None
        )
        if inner is None:
            break
        error = inner
    return error


def _describe(root: BaseException, stage: Stage) -> tuple[str, str]:
    if isinstance(root, TimeoutError | urllib3.exceptions.TimeoutError):
        return _TIMEOUTS[stage]
    if isinstance(root, ssl.SSLCertVerificationError):
        return "tls", f"the upstream's certificate was not accepted: {root.verify_message}"
    if isinstance(root, ssl.SSLError) and stage == "connect":
        return "tls", f"no TLS connection: {root.reason or 'the handshake failed'}"
    if isinstance(root, Malformed):
        return "protocol", str(root)
    return _describe_loss(root, stage)


def _describe_loss(root: BaseException, stage: Stage) -> tuple[str, str]:
    if stage == "connect":
        return "connect", f"no connection: {_system_text(root)}"
    if isinstance(root, RemoteDisconnected):
        return "cut", str(root)
    if isinstance(root, IncompleteRead):
        return "cut", "the answer ended before its end"
    return "cut", f"the connection broke: {_system_text(root)}"


def _system_text(root: BaseException) -> str:
    if isinstance(root, OSError):
        # "Tunnel connection failed: 407 …" has no number; its text is the proxy's and may be anything.
        return os.strerror(root.errno) if root.errno else "the other side refused"
    return type(root).__name__
