"""What a plugin may use. Everything else in this package may change without notice."""

from proxy.detect.detector import Detector
from proxy.errors import ConfigError, Unavailable
from proxy.hookspecs import hookimpl, only
from proxy.model import (
    Admission,
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
from proxy.prices import Price, Prices, nano_units, shown_money
from proxy.secret import Secret
from proxy.store import Store
from proxy.store.entries import Charge, Counts, Labels
from proxy.texts import Text, texts

__all__ = [
    "Admission",
    "Call",
    "Charge",
    "ConfigError",
    "Counts",
    "Credentials",
    "Denial",
    "Deny",
    "Detector",
    "Failure",
    "Finding",
    "Globs",
    "Labels",
    "Price",
    "Prices",
    "Principal",
    "Provider",
    "Record",
    "Reply",
    "Request",
    "Secret",
    "Store",
    "Text",
    "Unavailable",
    "Upstream",
    "Usage",
    "Verdict",
    "hookimpl",
    "linear",
    "nano_units",
    "only",
    "shown_money",
    "texts",
]
