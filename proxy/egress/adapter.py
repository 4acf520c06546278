"""The transport of one upstream in one process: requests and urllib3, tuned where they extend."""

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from proxy.egress.addresses import BaseUrl, check, literal_address
from proxy.egress.attempt import Attempt, here
from proxy.egress.connection import Pin, Pinned, PinnedConnection, PinnedTLSConnection, RawAnswer
from proxy.egress.faults import FAULTS, explain, is_lost
from proxy.egress.handle import Handle
from proxy.egress.outbound import ASKS, OutboundProxy, refusal
from proxy.model import Timeouts, Upstream

_IDLE_CONNECTIONS: Final = 256
# Load balancers drop idle connections after a minute, some without a word.
_KEEP_SECONDS: Final = 45.0


class PinnedRequest(requests.PreparedRequest):
    """A request that is complete: no session has to prepare it. ``target`` is path and query."""

    body: bytes | None

    def __init__(  # noqa: PLR0917 - built once, in client.py
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | None,
        handle: Handle,
        timeouts: Timeouts,
    ) -> None:
        self.method = method
        self.url = target
        self.target = target
        self.headers = headers  # type: ignore[assignment]
        self.body = body
        self.hooks = {}
        self.handle = handle
        self.timeouts = timeouts


class PinnedResponse(requests.Response):
    """An answer with an unread body and no cookie jar; ``attempt`` is the one that succeeded."""

    raw: RawAnswer

    def __init__(
        self, request: PinnedRequest, raw: RawAnswer, attempt: Attempt, attempts: int
    ) -> None:
        self._content = False  # type: ignore[assignment]
        self._content_consumed = False
        self._next = None
        self.status_code = raw.status
        self.headers = raw.headers  # type: ignore[assignment]
        self.raw = raw
        self.url = request.target
        self.encoding = None
        self.history = []
        self.reason = raw.reason or ""
        self.request = request
        self.attempt = attempt
        self.attempts = attempts


class _Pool(HTTPConnectionPool):
    """Hands out connections that are young enough, and only fresh ones to a second attempt."""

    keep = _KEEP_SECONDS

    def _get_conn(self, timeout: float | None = None) -> Pinned:  # type: ignore[override]
        conn = cast(Pinned, super()._get_conn(timeout))
        if here.attempt.fresh or time.monotonic() - conn.idle_since >= self.keep:
            conn.close()
        return conn

    def _put_conn(self, conn: Pinned | None) -> None:  # type: ignore[override]
        if conn is not None:
            conn.rest()
        super()._put_conn(conn)  # type: ignore[arg-type]

    def open(self, conn: Pinned) -> None:
        """Connect, through a tunnel of the outbound proxy where there is one."""
        if self.proxy is not None:
            self._prepare_proxy(conn)  # type: ignore[arg-type]  # for TLS it connects, too
        if conn.sock is None:
            conn.connect()

    def ask(self, request: PinnedRequest, prefix: str, extra: Mapping[str, str]) -> RawAnswer:
        """Send and read the head of the answer: ``urlopen`` without what retries and redirects need.

        ``prefix`` and ``extra`` are what a proxy wants to see of a request that it sends on itself.
        """
        conn = self._get_conn()
        try:
            if conn.sock is None:
                self.open(conn)
            headers = {**request.headers, **extra} if extra else request.headers
            conn.request(request.method or "", prefix + request.target, request.body, headers)
            raw = conn.getresponse()
        except BaseException:
            conn.close()
            self._put_conn(None)
            raise
        raw.hold(self, conn)
        return raw


class PinnedPool(_Pool):
    """The pool of an ``http://`` upstream."""

    ConnectionCls = PinnedConnection  # type: ignore[assignment]


class PinnedTLSPool(_Pool, HTTPSConnectionPool):
    """The pool of an ``https://`` upstream."""

    ConnectionCls = PinnedTLSConnection  # type: ignore[assignment]


_POOLS: Final = {"http": PinnedPool, "https": PinnedTLSPool}


class PinnedAdapter(HTTPAdapter):
    """Sends to one upstream, over connections to checked addresses, in one process."""

    def __init__(
        self,
        upstream: Upstream,
        base: BaseUrl,
        context: ssl.SSLContext | None,
        proxy: OutboundProxy | None = None,
        *,
        keep: float = _KEEP_SECONDS,
    ) -> None:
        super().__init__(pool_connections=1, pool_maxsize=_IDLE_CONNECTIONS)
        self._proxy = proxy
        self._base = base
        self._forwards = proxy is not None and base.scheme == "http"
        self._prefix = base.origin if self._forwards else ""
        self._extra = proxy.headers if proxy is not None and self._forwards else {}
        if proxy is not None and literal_address(base.host) is not None:
            check(base.host, allow_private=upstream.allow_private)
        manager = self.poolmanager if proxy is None else self.proxy_manager_for(proxy.url.reveal())
        manager.pool_classes_by_scheme = _POOLS
        self._pool = manager.connection_from_host(
            base.host,
            base.port,
            base.scheme,
            pool_kwargs=None if context is None else {"ssl_context": context},
        )
        self._pool.keep = keep
        self._pool.conn_kw["pin"] = Pin(
            allow_private=upstream.allow_private, via_proxy=proxy is not None
        )

    def proxy_headers(self, proxy: str) -> dict[str, str]:  # noqa: ARG002 - its URL, which requests would read anew
        """What the proxy of this adapter is shown, for ``proxy_manager_for``."""
        return {} if self._proxy is None else dict(self._proxy.headers)

    @contextlib.contextmanager
    def opened(self, handle: Handle, timeouts: Timeouts) -> Iterator[Pinned]:
        """A connection of its own over which a request could go now; it serves nothing else.

        Raises:
            UpstreamError: there is no connection, also of what happens inside the ``with``.

        """
        here.attempt = attempt = Attempt(handle, timeouts, fresh=True)
        conn = cast(Pinned, self._pool._new_conn())  # noqa: SLF001 - as the pool does for a request
        try:
            self._pool.open(conn)
            yield conn
        except FAULTS as error:
            raise explain(error, attempt) from None
        finally:
            conn.close()

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> PinnedResponse:
        """Send a ``PinnedRequest``; a reused connection that died unanswered is replaced once.

        Raises:
            UpstreamError: there is no answer.

        """
        if not isinstance(request, PinnedRequest):
            raise TypeError("only a PinnedRequest carries what this adapter needs")
        attempt = Attempt(request.handle, request.timeouts)
        try:
            return self._try(request, attempt, 1)
        except FAULTS as error:
            if not is_lost(error, attempt):
                raise explain(error, attempt) from None
        attempt = Attempt(request.handle, request.timeouts, fresh=True)
        try:
            return self._try(request, attempt, 2)
        except FAULTS as error:
            raise explain(error, attempt) from None

    def _try(self, request: PinnedRequest, attempt: Attempt, number: int) -> PinnedResponse:
        here.attempt = attempt
        raw = self._pool.ask(request, self._prefix, self._extra)
        if self._forwards and raw.status == ASKS:
            raw.close()
            raw.release_conn()
            raise refusal(raw.status, self._base.authority, asked_with=bool(self._extra))
        attempt.stage = "body"
        attempt.handle.set_read_timeout(attempt.timeouts.idle)
        return PinnedResponse(request, raw, attempt, number)


def origin_headers(base: BaseUrl, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """The headers that are sent: Host first, the caller's, and what frames the body."""
    final = {"Host": base.authority, **headers, "Accept-Encoding": "identity"}
    if body is not None:
        final["Content-Length"] = str(len(body))
    return final
