"""A trace of each call in OpenTelemetry's protocol (OTLP over HTTP), by its conventions for generative AI."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proxy import Call, ConfigError, Outbox, Poster, Record, Secret, Undeliverable, hookimpl

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

#: W3C Trace Context, section 3.2: version, trace id, parent id, flags; a later version may say more.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_SPAN = re.compile(r"[0-9a-f]{16}\Z")
_NOWHERE, _NOBODY = "0" * 32, "0" * 16
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_TAKEN = range(200, 300)
_REJECTED = frozenset({400, 413, 422})
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_OPERATIONS = {"completions": "text_completion", "chat": "chat", "embeddings": "embeddings"}
_ROUTES = {
    "completions": ("POST", "/v1/completions"),
    "chat": ("POST", "/v1/chat/completions"),
    "embeddings": ("POST", "/v1/embeddings"),
    "models": ("GET", "/v1/models"),
    "model": ("GET", "/v1/models/{id}"),
}


@dataclass(frozen=True)
class Otel:
    """``endpoint`` is the collector's whole URL, ``http://127.0.0.1:4318/v1/traces`` for one on this machine.

    Each call is two spans: the caller's request, and below it the request to the upstream. ``accept`` continues
    the trace that a caller names in ``traceparent``; what it says about sampling counts then. Of the calls of
    others, ``share`` (0 to 1) are traced. An upstream with ``trace = true`` is sent ``traceparent``.
    """

    endpoint: str
    headers: dict[str, Secret] = field(default_factory=dict)
    service: str = "outgate"
    attributes: dict[str, str] = field(default_factory=dict)
    providers: dict[str, str] = field(default_factory=dict)
    accept: bool = True
    share: float = 1.0
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    allow_http: bool = False
    timeout: float = 5.0
    most: int = 10_000
    _outbox: Outbox = field(init=False, repr=False)
    _poster: Poster = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """An endpoint, a header or a share that will not do stops the start."""
        try:
            import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
        except ImportError:
            raise ConfigError(
                "opentelemetry-proto is not installed: run pip install 'outgate[otel]'"
            ) from None
        for name in self.headers:
            if not _HEADER.match(name):
                raise ConfigError(f"headers: {name!r} is not the name of a header")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share = {self.share}: write a number from 0 to 1")
        poster = Poster(
            self.endpoint,
            ca_bundle=self.ca_bundle,
            client_cert=self.client_cert,
            client_key=self.client_key,
            allow_http=self.allow_http,
            timeout=self.timeout,
        )
        object.__setattr__(self, "_poster", poster)
        object.__setattr__(self, "_outbox", Outbox("otel", self._deliver, most=self.most))

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        """Note where in which trace this call is; the notes reach the record, and marked upstreams."""
        parent = _parsed(call.headers.get("traceparent", "")) if self.accept else None
        trace = parent[0] if parent else os.urandom(16).hex()
        sampled = parent[2] if parent else self._is_chosen(trace)
        notes = {
            "traceparent": f"00-{trace}-{os.urandom(8).hex()}-{int(sampled):02x}",
            "span_id": os.urandom(8).hex(),
        }
        if parent:
            notes["parent_span_id"] = parent[1]
        return call.note(**notes)

    @hookimpl
    def log_exchange(self, record: Record, required: bool) -> None:
        """Put the spans into the queue; while the collector is away, a required sink raises ``Undelivered``."""
        place = _parsed(record.notes.get("traceparent"))
        if place is None:
            # Refused before it had a place in any trace.
            trace = os.urandom(16).hex()
            place = trace, os.urandom(8).hex(), self._is_chosen(trace)
        if place[2]:
            self._outbox.put(self._encoded(record, place[0], place[1]), must=required)

    def _is_chosen(self, trace: str) -> bool:
        """By the trace's id, so that all who see a trace decide alike."""
        return int(trace[-14:], 16) < self.share * 2**56

    def _encoded(self, record: Record, trace: str, upstream_span: str) -> bytes:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add()
        resource = {"service.name": self.service, **self.attributes}
        _describe(spans.resource.attributes, resource)
        scope = spans.scope_spans.add()
        scope.scope.name = "outgate"
        own = _valid(record.notes.get("span_id")) or os.urandom(8).hex()
        served = scope.spans.add(trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(own))
        if parent := _valid(record.notes.get("parent_span_id")):
            served.parent_span_id = bytes.fromhex(parent)
        _serve(served, record)
        if record.upstream is not None:
            asked = scope.spans.add(trace_id=served.trace_id, span_id=bytes.fromhex(upstream_span))
            asked.parent_span_id = served.span_id
            _ask(asked, record, self.providers.get(record.upstream, record.upstream))
        data: bytes = request.SerializeToString()
        return data

    def _deliver(self, requests: Sequence[bytes]) -> None:
        # Messages of protocol buffers that follow each other are one whose lists are joined.
        own = {name: value.reveal() for name, value in self.headers.items()}
        headers = {"content-type": "application/x-protobuf", **own}
        status = self._poster.post(b"".join(requests), headers)
        if status in _REJECTED:
            raise Undeliverable(f"the collector answered {status}")
        if status not in _TAKEN:
            raise ConnectionError(f"the collector answered {status}")


def _parsed(header: Any) -> tuple[str, str, bool] | None:
    """Trace id, span id and whether it is sampled; None for what is no ``traceparent``."""
    found = _TRACEPARENT.match(header) if isinstance(header, str) else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    bad = version == "ff" or (version == "00" and more) or trace == _NOWHERE or span == _NOBODY
    return None if bad else (trace, span, bool(int(flags, 16) & 1))


def _valid(span: Any) -> str | None:
    return span if isinstance(span, str) and _SPAN.match(span) else None


def _serve(span: "Span", record: Record) -> None:
    """The caller's request, as the conventions for HTTP servers describe it."""
    method, route = _ROUTES[record.endpoint]
    span.name, span.kind = f"{method} {route}", span.SPAN_KIND_SERVER
    span.start_time_unix_nano, span.end_time_unix_nano = (
        _time(record, 0),
        _time(record, record.seconds),
    )
    _describe(
        span.attributes,
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": record.status,
            "client.address": record.client,
            "error.type": record.code if record.status >= _SERVER_ERROR else None,
            "outgate.call.id": record.id,
            "outgate.outcome": record.outcome,
            "outgate.code": record.code,
            "outgate.denied_by": record.denied_by,
            "outgate.answered_by": record.answered_by,
            "outgate.principal": record.principal,
            "outgate.findings": [f"{found.kind}={found.action}" for found in record.findings[:100]],
            "outgate.policy": record.policy,
            "outgate.proxy_seconds": record.proxy_seconds,
        },
    )
    if record.status >= _SERVER_ERROR or record.outcome == "truncated":
        span.status.code = span.status.STATUS_CODE_ERROR


def _ask(span: "Span", record: Record, provider: str) -> None:
    """The request to the upstream, as the conventions for generative AI describe it."""
    operation = _OPERATIONS.get(record.endpoint, record.endpoint)
    usage = record.usage
    fault = _fault(record)
    begun = _time(record, record.sent_seconds or 0)
    first = record.first_byte_seconds
    waited = None if first is None else max(0.0, first - (record.sent_seconds or 0))
    span.name = _text(f"{operation} {record.model}" if record.model else operation)
    span.kind = span.SPAN_KIND_CLIENT
    span.start_time_unix_nano, span.end_time_unix_nano = begun, _time(record, record.seconds)
    _describe(
        span.attributes,
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": record.model,
            "gen_ai.request.stream": True if record.stream else None,
            "gen_ai.response.finish_reasons": list(record.finish_reasons),
            "gen_ai.response.time_to_first_chunk": waited if record.stream else None,
            "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
            "http.response.status_code": record.upstream_status,
            "error.type": fault,
            "outgate.upstream": record.upstream,
            "outgate.attempts": record.attempts,
            **dict(_peer(record.upstream_address or "")),
        },
    )
    for failure in record.failures:
        event = span.events.add(time_unix_nano=begun, name="outgate.upstream_failed")
        _describe(
            event.attributes, {"outgate.upstream": failure.upstream, "error.type": failure.kind}
        )
    if fault is not None:
        span.status.code = span.status.STATUS_CODE_ERROR


def _fault(record: Record) -> str | None:
    """Why the upstream that was asked last gave no good answer, in one word."""
    status = record.upstream_status
    if status is not None and status >= _CLIENT_ERROR:
        return str(status)
    failed = record.outcome in ("upstream_error", "truncated") and record.failures
    return record.failures[-1].kind if failed else None


def _peer(address: str) -> Iterator[tuple[str, Any]]:
    host, _, port = address.rpartition(":")
    if port.isdigit():
        yield "network.peer.address", host.strip("[]")
        yield "network.peer.port", int(port)


def _time(record: Record, after: float) -> int:
    """Nanoseconds since 1970, ``after`` seconds into the call."""
    return int(datetime.fromisoformat(record.time).timestamp() * 1e3) * 10**6 + int(after * 1e9)


def _describe(attributes: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if value is None or value == []:
            continue
        slot = attributes.add(key=key).value
        if isinstance(value, bool):
            slot.bool_value = value
        elif isinstance(value, int):
            slot.int_value = value if abs(value) < 2**63 else -1
        elif isinstance(value, float):
            slot.double_value = value
        elif isinstance(value, list):
            for item in value:
                slot.array_value.values.add(string_value=_text(item))
        else:
            slot.string_value = _text(value)


def _text(value: str) -> str:
    """What UTF-8 can say; the protocol takes nothing else."""
    return value.encode(errors="replace").decode()
