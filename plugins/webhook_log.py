"""Calls as JSON to a URL of the company: in batches, signed, tried again while it is away."""

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy import ConfigError, Outbox, Poster, Record, Secret, Undeliverable, hookimpl, record_line

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_OWN = frozenset(
    {"content-type", "content-length", "transfer-encoding", "connection", "host", "user-agent"}
)
_SHORTEST_SECRET = 16
_TAKEN = range(200, 300)
#: The receiver read it and will not take it, however often it comes.
_REJECTED = frozenset({400, 413, 422})


@dataclass(frozen=True)
class WebhookLog:
    """Posts ``{"records": […]}`` to ``url``, up to ``batch`` at a time.

    With ``secret`` each post is signed: ``x-outgate-signature`` is ``v1=`` and the hexadecimal HMAC-SHA-256 of
    ``x-outgate-timestamp``, a dot, and the body. ``headers`` are sent as they are, ``Authorization`` for one.
    Records wait in memory, ``most`` of them, while the receiver is away.
    """

    url: str
    secret: Secret | None = None
    headers: dict[str, Secret] = field(default_factory=dict)
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    allow_http: bool = False
    timeout: float = 5.0
    batch: int = 100
    most: int = 10_000
    _outbox: Outbox = field(init=False, repr=False)
    _poster: Poster = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A URL, a header or a secret that will not do stops the start."""
        for name in self.headers:
            if not _HEADER.match(name) or name.lower() in _OWN:
                raise ConfigError(f"headers: {name!r} cannot be set here; remove it")
        if self.secret is not None and len(self.secret.reveal()) < _SHORTEST_SECRET:
            raise ConfigError(f"secret: shorter than {_SHORTEST_SECRET} characters can be guessed")
        if self.batch < 1:
            raise ConfigError(f"batch = {self.batch}: write a number above zero")
        poster = Poster(
            self.url,
            ca_bundle=self.ca_bundle,
            client_cert=self.client_cert,
            client_key=self.client_key,
            allow_http=self.allow_http,
            timeout=self.timeout,
        )
        object.__setattr__(self, "_poster", poster)
        box = Outbox("webhook_log", self._deliver, batch=self.batch, most=self.most)
        object.__setattr__(self, "_outbox", box)

    @hookimpl
    def log_exchange(self, record: Record, required: bool) -> None:
        """Put the record into the queue; while the receiver is away, a required sink raises ``Undelivered``."""
        self._outbox.put(record_line(record).rstrip(), must=required)

    def _deliver(self, records: Sequence[bytes]) -> None:
        body = b'{"records":[' + b",".join(records) + b"]}"
        status = self._poster.post(body, {**self._signed(body), **self._own()})
        if status in _REJECTED:
            raise Undeliverable(f"the receiver answered {status}")
        if status not in _TAKEN:
            raise ConnectionError(f"the receiver answered {status}")

    def _signed(self, body: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if self.secret is None:
            return headers
        moment = str(int(time.time()))
        mac = hmac.new(self.secret.reveal().encode(), f"{moment}.".encode() + body, hashlib.sha256)
        return {
            **headers,
            "x-outgate-timestamp": moment,
            "x-outgate-signature": f"v1={mac.hexdigest()}",
        }

    def _own(self) -> dict[str, str]:
        return {name: value.reveal() for name, value in self.headers.items()}
