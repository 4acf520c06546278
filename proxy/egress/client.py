"""The one way out: sends a call to a configured upstream and gives its answer, or says in one word why not.

Kinds of ``UpstreamError``:

====================  ===========================================================================
resolve               the host has no address
refused_address       an address is not allowed, or the upstream is not a configured one
connect               nobody listens, or the outbound proxy refused
tls                   the certificate or the handshake was not accepted
timeout_connect       no connection in time
timeout_first_byte    no head of an answer in time
timeout_idle          silence in the body
deadline              the call's total time is over
client_gone           the caller hung up
draining              this process stops
protocol              the answer is not HTTP/1.1 as RFC 9112 has it
redirect              the answer is a 3xx; it is never followed
cut                   the answer ended before its end, or never began
too_large             the body is larger than allowed
encoding              a content coding that was not asked for, or a broken one
====================  ===========================================================================
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from proxy.egress.adapter import PinnedAdapter, PinnedRequest, origin_headers
from proxy.egress.faults import ended
from proxy.egress.handle import Handle
from proxy.egress.known import Known, prepare
from proxy.egress.reply import UpstreamReply
from proxy.errors import UpstreamError
from proxy.model import Limits, Timeouts, Upstream

#: Signs one request: method, full URL, headers and body give the headers that are sent in their place.
Sign: TypeAlias = Callable[[str, str, Mapping[str, str], bytes | None], Mapping[str, str]]

_OURS: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "expect",
        "te",
        "upgrade",
    )
)
_NAMES: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_PATH: Final = re.compile(r"/[0-9A-Za-z._~!$&'()*+,;=:@/?%-]*")
_DOTS: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|\?|$)", re.IGNORECASE)


class Egress:
    """All upstreams of an operator. Making it opens no socket; connections belong to the process that made them.

    Raises:
        ConfigError: a base URL, certificate file or outbound proxy cannot be used.

    """

    def __init__(self, upstreams: Iterable[Upstream], limits: Limits) -> None:
        self._limits = limits
        self._known = {upstream.name: prepare(upstream) for upstream in upstreams}
        self._adapters: dict[tuple[int, str], PinnedAdapter] = {}

    def send(  # noqa: PLR0917 - the parts of one request, in the order they are written
        self,
        upstream: Upstream,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        handle: Handle,
        *,
        sign: Sign | None = None,
        timeouts: Timeouts | None = None,
    ) -> UpstreamReply:
        """Send one request and wait for the head of its answer.

        ``path`` goes below the base URL; ``headers`` are final: only Host, Content-Length and
        ``Accept-Encoding: identity`` are added. ``sign`` sees the request as it will leave and gives
        the headers in place of ``headers``; ``timeouts`` hold instead of the upstream's for this
        one request. Close the reply in every case.

        Raises:
            UpstreamError: there is no answer that can be used.
            ValueError: method, path or a header cannot be sent as it is, or ``sign`` refused;
                nothing was sent.

        """
        known = self._find(upstream)
        _check_target(method, path)
        if sign is not None:
            headers = sign(method, known.base.origin + known.base.path + path, headers, body)
        _check_headers(headers)
        if handle.reason is not None:
            raise ended(handle.reason, received=False)
        final = origin_headers(known.base, headers, body)
        request = PinnedRequest(
            method, known.base.path + path, final, body, handle, timeouts or upstream.timeouts
        )
        return _no_redirect(
            UpstreamReply(self._adapter(known).send(request), self._limits.reply_bytes)
        )

    def close(self) -> None:
        """Close this process's idle connections; calls under way end as they would."""
        pid = os.getpid()
        for key in [key for key in list(self._adapters) if key[0] == pid]:
            self._adapters.pop(key).close()

    def _find(self, upstream: Upstream) -> Known:
        known = self._known.get(upstream.name)
        if known is None or (known.upstream is not upstream and known.upstream != upstream):
            raise UpstreamError(
                "refused_address", f"{upstream.name!r} is not a configured upstream"
            )
        return known

    def _adapter(self, known: Known) -> PinnedAdapter:
        key = (os.getpid(), known.upstream.name)
        adapter = self._adapters.get(key)
        if adapter is None:
            self._drop_inherited(key[0])
            adapter = self._adapters.setdefault(key, known.adapter())
        return adapter

    def _drop_inherited(self, pid: int) -> None:
        # A parent's connection, written to by two processes, would mix up their answers.
        for key in [key for key in list(self._adapters) if key[0] != pid]:
            self._adapters.pop(key, None)


def _no_redirect(reply: UpstreamReply) -> UpstreamReply:
    if 300 <= reply.status < 400:  # noqa: PLR2004 - the class of redirects
        reply.abort()
        raise UpstreamError(
            "redirect", f"the upstream answered {reply.status}", bytes_received=True
        )
    return reply


def _check_target(method: str, path: str) -> None:
    if not _METHOD.fullmatch(method):
        raise ValueError("the method is not a plain word in capitals")
    if not _PATH.fullmatch(path) or _DOTS.search(path):
        raise ValueError("the path is not plain ASCII below '/', or holds '.' or '..' as a part")


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what could be read as another header or another request; the value is never quoted."""
    text = "".join(headers.values())
    if not (text.isascii() and text.isprintable() and _NAMES.fullmatch("".join(headers))):
        raise ValueError("a header's name is not a token, or its value is not printable ASCII")
    for name in headers:
        if not name or name.lower() in _OURS:
            raise ValueError(f"the header {name!r} is not the caller's to set")
