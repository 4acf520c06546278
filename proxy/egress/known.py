"""An upstream of the configuration, checked and taken apart: what sending and probing both begin with."""

import ssl

from msgspec import Struct

from proxy.egress.adapter import PinnedAdapter
from proxy.egress.addresses import BaseUrl, parse_base_url
from proxy.egress.outbound import OutboundProxy
from proxy.egress.outbound import parse as parse_proxy
from proxy.egress.tls import tls_context
from proxy.errors import ConfigError
from proxy.model import Upstream


class Known(Struct, frozen=True):
    """A configured upstream, ready to be connected to."""

    upstream: Upstream
    base: BaseUrl
    proxy: OutboundProxy | None
    context: ssl.SSLContext | None

    def adapter(self) -> PinnedAdapter:
        """Its connections in this process."""
        return PinnedAdapter(self.upstream, self.base, self.context, self.proxy)


def prepare(upstream: Upstream) -> Known:
    """What calls to ``upstream`` need; no socket is opened.

    Raises:
        ConfigError: base URL, certificate file or outbound proxy cannot be used.

    """
    try:
        base = parse_base_url(upstream.base_url, allow_http=upstream.allow_private)
        secret = upstream.outbound_proxy
        proxy = None if secret is None else parse_proxy(secret)
    except ConfigError as error:
        raise ConfigError(f"upstream {upstream.name!r}: {error}") from None
    return Known(upstream, base, proxy, tls_context(upstream) if base.scheme == "https" else None)
