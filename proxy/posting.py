"""Posts to a receiver of records: the configured address and nothing else, neither proxies, redirects nor cookies."""

import hashlib
import hmac
import http.client
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from proxy.errors import ConfigError
from proxy.secret import Secret

if TYPE_CHECKING:
    import ssl

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_OWN: Final = frozenset(
    {"content-type", "content-length", "transfer-encoding", "connection", "host", "user-agent"}
)
_SHORTEST_SECRET: Final = 16


def tls_context(
    ca_bundle: str | None = None, client_cert: str | None = None, client_key: str | None = None
) -> "ssl.SSLContext":
    """How a server is verified: by ``ca_bundle`` (file or folder), else by certifi's; never by the environment.

    Raises ``ConfigError`` naming the file that will not do.
    """
    from proxy.egress.tls import context  # loads the HTTP client, which most commands do without

    return context(ca_bundle, client_cert, client_key)


class Poster:
    """One URL that is posted to; safe to use from several threads. ``timeout`` is in seconds, of each step.

    Raises ``ConfigError`` for a URL that is not ``https://host[:port][/path]``. Plain ``http://`` goes to this
    machine only, unless ``allow_http``.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        allow_http: bool = False,
        timeout: float = 5.0,
    ) -> None:
        from proxy.egress.addresses import parse_base_url

        try:
            self._base = parse_base_url(url, allow_http=True)
        except ConfigError as error:
            raise ConfigError(f"url: {str(error).replace('a base URL', 'this URL')}") from None
        if self._base.scheme == "http" and self._base.host not in LOOPBACK and not allow_http:
            raise ConfigError(
                "url: records would cross the network in plain text: write https://, or allow_http = true"
            )
        self._context = (
            tls_context(ca_bundle, client_cert, client_key)
            if self._base.scheme == "https"
            else None
        )
        self._timeout = timeout

    def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer; raises ``OSError`` when there is none, also for an answer that is not HTTP."""
        base, timeout = self._base, self._timeout
        connection = (
            http.client.HTTPConnection(base.host, base.port, timeout=timeout)
            if self._context is None
            else http.client.HTTPSConnection(
                base.host, base.port, timeout=timeout, context=self._context
            )
        )
        try:
            connection.request(
                "POST",
                base.path or "/",
                body,
                {"user-agent": "outgate", "connection": "close", **headers},
            )
            return connection.getresponse().status
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from None
        finally:
            connection.close()


class PostHeaders:
    """The headers of a post of JSON: the operator's own, and with ``secret`` a signature over time and body.

    ``x-outgate-signature`` is ``v1=`` and the hexadecimal HMAC-SHA-256 of ``x-outgate-timestamp``, a dot, and the
    body. Raises ``ConfigError`` for a header that is not the operator's to set, and a secret that can be guessed.
    """

    def __init__(self, secret: Secret | None, headers: Mapping[str, Secret]) -> None:
        for name in headers:
            if not _HEADER.match(name) or name.lower() in _OWN:
                raise ConfigError(f"headers: {name!r} cannot be set here; remove it")
        if secret is not None and len(secret.reveal()) < _SHORTEST_SECRET:
            raise ConfigError(f"secret: shorter than {_SHORTEST_SECRET} characters can be guessed")
        self._secret = secret
        self._headers = headers

    def of(self, body: bytes) -> dict[str, str]:
        """The headers for this body, now."""
        found = {"content-type": "application/json"}
        if self._secret is not None:
            moment = str(int(time.time()))
            signed = f"{moment}.".encode() + body
            mac = hmac.new(self._secret.reveal().encode(), signed, hashlib.sha256)
            found["x-outgate-timestamp"] = moment
            found["x-outgate-signature"] = f"v1={mac.hexdigest()}"
        return {**found, **{name: value.reveal() for name, value in self._headers.items()}}
