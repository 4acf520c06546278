"""What a plugin may use. Everything else in this package may change without notice."""

from proxy.asking import Asker
from proxy.bridge.settings import Bridge
from proxy.connection import Connection
from proxy.connections import Connections
from proxy.deployment import Deployment
from proxy.detect.detector import Detector
from proxy.dialect import Dialect, Interpreter, Untranslatable
from proxy.errors import ConfigError, Unavailable
from proxy.hookspecs import hookimpl, only
from proxy.model import (
    Admission,
    Call,
    Choice,
    Credentials,
    Deny,
    Principal,
    Provider,
    Reply,
    Request,
    Upstream,
)
from proxy.outbox import Outbox, Undeliverable, Undelivered
from proxy.params import unsendable
from proxy.patterns import Globs, linear
from proxy.posting import Poster, PostHeaders, tls_context
from proxy.prices import Price, Prices, nano_units, shown_money
from proxy.records import Denial, Failure, Finding, Record, Usage, Verdict
from proxy.rendering import record_line
from proxy.routing import Balance, Fallback, Retry, Target, Way, next_choice
from proxy.secret import Secret
from proxy.store import Store
from proxy.store.entries import Charge, Counts, Labels
from proxy.texts import Text, texts

__all__ = [
    "Admission",
    "Asker",
    "Balance",
    "Bridge",
    "Call",
    "Charge",
    "Choice",
    "ConfigError",
    "Connection",
    "Connections",
    "Counts",
    "Credentials",
    "Denial",
    "Deny",
    "Deployment",
    "Detector",
    "Dialect",
    "Failure",
    "Fallback",
    "Finding",
    "Globs",
    "Interpreter",
    "Labels",
    "Outbox",
    "PostHeaders",
    "Poster",
    "Price",
    "Prices",
    "Principal",
    "Provider",
    "Record",
    "Reply",
    "Request",
    "Retry",
    "Secret",
    "Store",
    "Target",
    "Text",
    "Unavailable",
    "Undeliverable",
    "Undelivered",
    "Untranslatable",
    "Upstream",
    "Usage",
    "Verdict",
    "Way",
    "hookimpl",
    "linear",
    "nano_units",
    "next_choice",
    "only",
    "record_line",
    "shown_money",
    "texts",
    "tls_context",
    "unsendable",
]
