"""Calls as JSON to a URL of the company: in batches, signed, tried again while it is away."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy import (
    ConfigError,
    Outbox,
    Poster,
    PostHeaders,
    Record,
    Secret,
    Undeliverable,
    hookimpl,
    record_line,
)

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
    _headers: PostHeaders = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A URL, a header or a secret that will not do stops the start."""
        object.__setattr__(self, "_headers", PostHeaders(self.secret, self.headers))
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
        status = self._poster.post(body, self._headers.of(body))
        if status in _REJECTED:
            raise Undeliverable(f"the receiver answered {status}")
        if status not in _TAKEN:
            raise ConnectionError(f"the receiver answered {status}")
