"""The transport of one upstream in one process: requests and urllib3, tuned where they extend."""

import ssl
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from proxy.egress.addresses import BaseUrl, check, literal_address
from proxy.egress.attempt import Attempt, here
from proxy.egress.connection import Pin, Pinned, PinnedConnection, PinnedTLSConnection, RawAnswer
from proxy.egress.faults import FAULTS, explain, is_lost
from proxy.egress.handle import Handle
from proxy.model import Timeouts, Upstream

_IDLE_CONNECTIONS: Final = 256
# Load balancers drop idle connections after a minute, some without a word.
_KEEP_SECONDS: Final = 45.0
_NO_RETRIES: Final = urllib3.Retry(False)


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

    def ask(self, request: PinnedRequest) -> RawAnswer:
        """Send and read the head of the answer: ``urlopen`` without what retries, redirects and proxies need."""
        conn = self._get_conn()
        try:
            conn.request(request.method or "", request.target, request.body, request.headers)
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
        *,
        keep: float = _KEEP_SECONDS,
    ) -> None:
        super().__init__(pool_connections=1, pool_maxsize=_IDLE_CONNECTIONS)
        proxy = upstream.outbound_proxy
        self._direct = proxy is None
        self._prefix = base.origin if proxy is not None and base.scheme == "http" else ""
        if proxy is not None and literal_address(base.host) is not None:
            check(base.host, allow_private=upstream.allow_private)
        manager = self.poolmanager if proxy is None else self.proxy_manager_for(proxy.reveal())
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
        raw = self._pool.ask(request) if self._direct else self._through_proxy(request)
        attempt.stage = "body"
        attempt.handle.set_read_timeout(attempt.timeouts.idle)
        return PinnedResponse(request, raw, attempt, number)

    def _through_proxy(self, request: PinnedRequest) -> RawAnswer:
        answer = self._pool.urlopen(
            request.method or "",
            self._prefix + request.target,
            body=request.body,
            headers=request.headers,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=None,
            preload_content=False,
            decode_content=False,
        )
        return cast(RawAnswer, answer)


def origin_headers(base: BaseUrl, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """The headers that are sent: Host first, the caller's, and what frames the body."""
    final = {"Host": base.authority, **headers, "Accept-Encoding": "identity"}
    if body is not None:
        final["Content-Length"] = str(len(body))
    return final
