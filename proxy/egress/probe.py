"""Looks whether an upstream can be reached, by the steps of a call and with the same code, and says what it saw."""

import contextlib
import ssl
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from proxy.egress.addresses import check, lookup
from proxy.egress.certificates import TLS, Talk, certificate, unverified
from proxy.egress.client import Egress, Sign
from proxy.egress.handle import Handle
from proxy.egress.known import Known, prepare
from proxy.errors import ConfigError, UpstreamError
from proxy.model import Limits, Timeouts, Upstream

Step: TypeAlias = Literal["configuration", "resolve", "connect", "tls", "call"]

_STEPS: Final[Mapping[str, Step]] = {
    "resolve": "resolve",
    "refused_address": "resolve",
    "connect": "connect",
    "timeout_connect": "connect",
    "tls": "tls",
}
_ALERT_SECONDS: Final = 1.0
_MODELS_BYTES: Final = 16 * 1024 * 1024
_REFUSED: Final = (401, 403)
_MISSING: Final = (404, 405)
_TOO_MANY: Final = 429
_REMEDIES: Final[Mapping[str, str]] = {
    "redirect": "A redirect is never followed: if where it leads is the provider's, write that as base_url.",
    "timeout_first_byte": "If the upstream is only slow, raise timeouts.first_byte.",
    "timeout_idle": "If the upstream is only slow, raise timeouts.idle.",
}
_NOT_HTTP: Final = (
    "Look at base_url, and at the log of the upstream: it does not speak HTTP/1.1 as it should."
)


class Seen(Struct, frozen=True):
    """An address of the host that is connected to; ``refused`` says why it may not be."""

    address: str
    refused: str | None = None


class Trouble(Struct, frozen=True):
    """What went wrong, at which step, and what to do about it; ``kind`` as ``UpstreamError`` has it."""

    step: Step
    kind: str
    detail: str
    remedy: str


class Ask(Struct, frozen=True):
    """The one request of a probe that asks more than for a connection: a GET of ``path``."""

    path: str
    headers: Mapping[str, str]
    credential: bool
    sign: Sign | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What was seen of one upstream; nothing in it is a secret.

    Attributes:
        target: scheme, host and port of the base URL.
        proxy: ``host:port`` of the outbound proxy.
        addresses: those of the host that is connected to: the upstream's, or the proxy's.
        address: the one that was connected to.
        tls: None for plain HTTP, and where it did not come to it.
        status: of the answer, where one was asked for.
        trouble: None when all is well.

    """

    upstream: str
    target: str | None = None
    proxy: str | None = None
    addresses: tuple[Seen, ...] = ()
    address: str | None = None
    tls: TLS | None = None
    status: int | None = None
    trouble: Trouble | None = None


def probe(
    upstream: Upstream,
    limits: Limits,
    *,
    ask: Ask | None = None,
    timeouts: Timeouts | None = None,
) -> Report:
    """Resolve, connect and verify as a call would, then send ``ask`` if there is one; never raises for an upstream."""
    report = Report(upstream=upstream.name)
    try:
        known = prepare(upstream)
    except ConfigError as error:
        remedy = "Put it right below [upstreams.NAME]; see outgate docs configuration."
        return replace(report, trouble=Trouble("configuration", "config", str(error), remedy))
    report = replace(
        report,
        target=known.base.origin,
        proxy=None if known.proxy is None else known.proxy.text,
        addresses=_addresses(known),
    )
    times = timeouts or upstream.timeouts
    report = _connected(report, known, times)
    if ask is None or report.trouble is not None:
        return report
    return _asked(report, upstream, limits, ask, times)


def _addresses(known: Known) -> tuple[Seen, ...]:
    to = known.base if known.proxy is None else known.proxy
    try:
        found = lookup(to.host, to.port)
    except UpstreamError:
        return ()  # told by the connection, which looks again
    return tuple(Seen(address.text, _refused(str(address.sockaddr[0]), known)) for address in found)


def _refused(text: str, known: Known) -> str | None:
    if known.proxy is not None:
        return None  # the operator's own, wherever it stands
    try:
        check(text, allow_private=known.upstream.allow_private)
    except UpstreamError as error:
        return error.detail
    return None


def _connected(report: Report, known: Known, timeouts: Timeouts) -> Report:
    talk = Talk(known.context)
    try:
        with known.adapter().opened(Handle(), timeouts) as connection:
            report = replace(report, address=connection.address)
            if isinstance(connection.sock, ssl.SSLSocket):
                report = replace(report, tls=_tls(connection.sock, known, talk))
                _hear(connection.sock, talk, timeouts)
    except UpstreamError as error:
        report = replace(report, trouble=_trouble(error))
        if error.kind == "tls" and report.tls is None:
            report = replace(report, tls=_looked_at(known, talk, timeouts))
    return report


def _tls(sock: ssl.SSLSocket | None, known: Known, talk: Talk, *, verified: bool = True) -> TLS:
    return TLS(
        version=sock.version() if sock else None,
        certificate=certificate(sock.getpeercert(binary_form=True)) if sock else None,
        verified=verified,
        authorities=known.upstream.ca_bundle or "certifi",
        client_certificate=talk.outcome(configured=known.upstream.client_cert is not None),
    )


def _hear(sock: ssl.SSLSocket, talk: Talk, timeouts: Timeouts) -> None:
    """Wait a moment for the upstream's word on our certificate, which TLS 1.3 sends after the handshake."""
    if talk.asked and sock.version() == "TLSv1.3":
        sock.settimeout(min(_ALERT_SECONDS, timeouts.connect))
        with contextlib.suppress(TimeoutError):
            sock.recv(1)


def _looked_at(known: Known, talk: Talk, timeouts: Timeouts) -> TLS:
    """The certificate of an upstream that is not trusted: for reading only, nothing is sent over this connection."""
    bare = replace(known, context=unverified())
    try:
        with bare.adapter().opened(Handle(), timeouts) as connection:
            return _tls(cast(ssl.SSLSocket, connection.sock), known, talk, verified=False)
    except UpstreamError:
        return _tls(None, known, talk, verified=False)


def _asked(
    report: Report, upstream: Upstream, limits: Limits, ask: Ask, timeouts: Timeouts
) -> Report:
    egress = Egress([upstream], limits)
    try:
        reply = egress.send(
            upstream, "GET", ask.path, None, ask.headers, Handle(), sign=ask.sign, timeouts=timeouts
        )
        reply.read(_MODELS_BYTES)
    except UpstreamError as error:
        return replace(report, trouble=_trouble(error, "call"))
    except ValueError as error:
        remedy = "Look at the credential: it holds something that no header can."
        return replace(report, trouble=Trouble("call", "unsent", str(error), remedy))
    finally:
        egress.close()
    return replace(report, status=reply.status, trouble=_objection(reply.status, ask))


def _objection(status: int, ask: Ask) -> Trouble | None:
    """What is wrong with an answer of this status."""
    said = f"the upstream answered {status}"
    if status in _REFUSED and not ask.credential:
        detail, remedy = (
            f"{said}: it asks for a credential",
            "Set credential below [upstreams.NAME].",
        )
    elif status in _REFUSED:
        detail = f"{said}: the credential was refused"
        remedy = (
            "Look whether the key is current, of this provider and project, and may list models."
        )
    elif status in _MISSING:
        detail = f"{said}: there is no {ask.path} below the base URL"
        remedy = (
            "Look at the path of base_url: most end with /v1. A server may also have no list of models;"
            " then leave out --call."
        )
    elif status == _TOO_MANY:
        detail = f"{said}: the credential has used up its rate or its budget"
        remedy = "Wait, or look at the limits of this key with the provider."
    elif status >= 400:  # noqa: PLR2004 - the classes of errors
        detail, remedy = f"{said}", "Look at the log or the status page of the upstream."
    else:
        return None
    return Trouble("call", "status", detail, remedy)


def _trouble(error: UpstreamError, step: Step | None = None) -> Trouble:
    remedy = getattr(error, "remedy", "") or _REMEDIES.get(error.kind, _NOT_HTTP)
    return Trouble(step or _STEPS.get(error.kind, "call"), error.kind, error.detail, remedy)
