"""What a plugin may use. Everything else in this package may change without notice."""

from proxy.detect.detector import Detector
from proxy.errors import ConfigError
from proxy.hookspecs import hookimpl, only
from proxy.model import (
    Call,
    Credentials,
    Denial,
    Deny,
    Failure,
    Finding,
    Principal,
    Provider,
    Record,
    Reply,
    Request,
    Upstream,
    Usage,
    Verdict,
)
from proxy.patterns import Globs, linear
from proxy.secret import Secret
from proxy.texts import Text, texts

__all__ = [
    "Call",
    "ConfigError",
    "Credentials",
    "Denial",
    "Deny",
    "Detector",
    "Failure",
    "Finding",
    "Globs",
    "Principal",
    "Provider",
    "Record",
    "Reply",
    "Request",
    "Secret",
    "Text",
    "Upstream",
    "Usage",
    "Verdict",
    "hookimpl",
    "linear",
    "only",
    "texts",
]
