"""The way of one call: accepted by the intake, sent to an upstream, relayed back, recorded."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote

from msgspec import structs

from proxy import chain, denials, outbox, params, wire
from proxy.accounting import priced
from proxy.bridge.crossing import cross, must_cross
from proxy.bridge.plan import Part, Plan, headers_of, planned
from proxy.bridge.way import Way
from proxy.egress import Egress, Handle, UpstreamReply, Watcher
from proxy.errors import ApiError, UpstreamError, as_api_error, outcome_of
from proxy.evidence import Evidence
from proxy.exchange import Answer, Denied, Exchange
from proxy.gate import Gate
from proxy.intake import BODILESS, Intake
from proxy.model import Call, Credentials, Deny, Endpoint, Principal, Provider, Upstream
from proxy.parts import Parts
from proxy.records import Record
from proxy.relay import Relay
from proxy.routes import Routes
from proxy.steps import Running

log: Final = logging.getLogger("outgate")

#: After these nothing of the answer had come, so another upstream may be asked.
_RETRIABLE: Final = frozenset({"resolve", "refused_address", "connect", "tls", "timeout_connect"})


class Pipeline:
    """Takes calls from the web framework and answers them. One per process, shared by its threads."""

    def __init__(self, parts: Parts) -> None:
        limits = parts.config.limits
        self.parts = parts
        self.running = Running()
        self.gate = Gate(limits.concurrent_calls or 112, self.running, limits.hung_hooks)
        self.watcher = Watcher()
        self._egress = Egress(parts.upstreams.values(), limits)
        self._routes = Routes(parts.config.routes)
        self._relay = Relay(parts)
        self._required = frozenset(
            step.plugin for step in parts.chain.log_exchange if step.required
        )
        self._intake = Intake(parts)
        self.evidence = Evidence(parts.config.audit, parts.digest)

    def handle(
        self, environ: Mapping[str, Any], endpoint: Endpoint, model: str | None = None
    ) -> Answer:
        """Answer one call; never raises. ``model`` is the path parameter of ``GET /v1/models/{id}``."""
        exchange = self._opened(environ, endpoint)
        if connection := _client(environ):
            # A caller that stalls, in sending or in reading, frees its thread.
            connection.settimeout(self.parts.config.limits.client_idle)
        try:
            self.gate.enter()
            exchange.on_finish(self.gate.leave)
            call, sent = self._intake.accept(environ, exchange, model)
            return self._forward(environ, call, sent, exchange)
        except Denied as denied:
            return denials.refuse(self.parts.chain.rewrite_denial, denied, exchange)
        except UpstreamError as error:
            log.warning("%s: %s", exchange.id, error)
            return exchange.refuse(as_api_error(error), outcome_of(error))
        except ApiError as error:
            return exchange.refuse(error)
        except Exception:
            log.exception("%s: failed", exchange.id)
            return exchange.refuse(
                ApiError("Something went wrong in this gateway; tell its operator the request id.")
            )

    def caller(self, environ: Mapping[str, Any]) -> Principal:
        """Who sends a request that a plugin's own route serves; raises ``ApiError``, 401 for strangers."""
        return self._intake.caller(environ, self._opened(environ, "models"))

    def drain(self, seconds: float) -> None:
        """Refuse new calls and end those inside, each with an event or in full, within ``seconds``."""
        self.watcher.drain(self.gate.drain(seconds))

    def vitals(self) -> dict[str, float]:
        """How this process is, in numbers, for whoever watches it; each is there from the start."""
        waiting, dropped, failing = outbox.totals()
        return {
            "calls_inside": self.gate.inside,
            "capacity": self.gate.capacity,
            "streams_in_flight": self._relay.streams,
            "hung_hooks": len(self.running.hung()),
            "draining": float(self.gate.draining_until is not None),
            "sink_records_waiting": waiting,
            "sink_records_dropped": dropped,
            "sinks_failing": failing,
            **self.evidence.vitals(),
        }

    def obstacles(self) -> list[str]:
        """Why this process is not ready, in words; empty when it is."""
        unrecorded = self.evidence.obstacle()
        return [*self.gate.obstacles(), *([unrecorded] if unrecorded else [])]

    def start(self) -> None:
        """What a server does before its first call; a check of the configuration leaves it."""
        if self.parts.store is not None:
            self.parts.store.start()
        self.evidence.start()

    def close(self) -> None:
        """What a server does after its last call."""
        self.evidence.close()
        if self.parts.store is not None:
            self.parts.store.close()

    def _opened(self, environ: Mapping[str, Any], endpoint: Endpoint) -> Exchange:
        client = wire.client_address(environ, self.parts.config.access.trusted_proxies)
        exchange = Exchange(endpoint, client, self.running, self._tell)
        exchange.facts["policy"] = self.parts.digest[:16]
        self.evidence.begin(exchange)
        return exchange

    def _forward(
        self, environ: Mapping[str, Any], call: Call, sent: bytes, exchange: Exchange
    ) -> Answer:
        handle = Handle()
        exchange.on_finish(lambda: self.watcher.unwatch(handle))
        client = _client(environ)
        while True:
            upstream = self._choose(call, exchange)
            limit = min(call.deadline, time.monotonic() + upstream.timeouts.total)
            self.watcher.watch(handle, client, limit)
            try:
                reply = self._send(upstream, call, sent, handle, exchange)
                return self._relay.answer(upstream, call, reply, exchange)
            except UpstreamError as error:
                exchange.failed(error)
                if error.kind not in _RETRIABLE:
                    raise
                log.warning("%s: upstream %s: %s", exchange.id, upstream.name, error)

    def _choose(self, call: Call, exchange: Exchange) -> Upstream:
        failures = exchange.failures
        name = chain.choose_upstream(
            self.parts.chain.choose_upstream, call, failures, exchange.trail
        )
        if isinstance(name, Deny):
            status = 502 if name.code == "plugin_failed" else name.status
            raise Denied(structs.replace(name, status=status), exchange.trail.verdicts[-1].plugin)
        name = name or self._routes.choose(call, failures)
        tried = {failure.upstream for failure in failures}
        if name is None or name in tried:
            if failures:
                raise UpstreamError(failures[-1].kind, "no upstream is left to try")
            raise _no_such_model(call)
        if name not in self.parts.upstreams:
            log.error("choose_upstream named %r, which is not configured", name)
            raise ApiError(
                "No upstream is configured for this call.", status=502, code="no_such_upstream"
            )
        return self.parts.upstreams[name]

    def _send(
        self, upstream: Upstream, call: Call, sent: bytes, handle: Handle, exchange: Exchange
    ) -> UpstreamReply:
        provider = self.parts.providers[upstream.provider]
        path, plan = self._target(upstream, provider, call)
        method = "GET" if call.endpoint in BODILESS else "POST"
        exchange.facts |= _crossed(plan)
        exchange.facts["upstream"] = upstream.name
        exchange.facts["attempts"] = exchange.facts.get("attempts", 0) + 1
        self.evidence.leaving(exchange, call, sent)
        started = time.perf_counter()
        exchange.facts["sent_seconds"] = round(started - exchange.started, 6)
        headers = _headers(upstream, provider, call, exchange.credentials)
        try:
            if plan is None:
                body = sent if method == "POST" else None
                reply = self._egress.send(upstream, method, path, body, headers, handle)
            else:
                reply = self._over(plan, upstream, path, headers, handle)
        except ValueError:
            # Nothing was sent. In a path only the model can be at fault, a header is the operator's.
            if call.endpoint != "model":
                raise
            raise _no_such_model(call) from None
        finally:
            exchange.waited += time.perf_counter() - started
        exchange.on_finish(reply.close)
        exchange.on_finish(lambda: exchange.wait(reply.waited))
        exchange.facts |= {
            "upstream_address": reply.address,
            "upstream_status": reply.status,
            "upstream_seconds": round(time.perf_counter() - started, 6),
            "attempts": exchange.facts["attempts"] + reply.attempts - 1,
        }
        return reply

    def _target(
        self, upstream: Upstream, provider: Provider, call: Call
    ) -> tuple[str, Plan | None]:
        """The path below the base URL, and the chats that a completion has to be sent as; raises ``ApiError``."""
        crosses = must_cross(upstream.bridge, provider.paths, call.endpoint)
        path = provider.paths.get("chat" if crosses else call.endpoint)
        if path is None:
            raise ApiError(
                f"The upstream for this model does not offer {call.endpoint}.",
                status=404, type="invalid_request_error", code="endpoint_not_offered",
            )  # fmt: skip
        if upstream.strict and call.endpoint not in BODILESS:
            params.check(call.endpoint, call.body, strict=True)
        plan = planned(self._intake.readable(call), upstream.bridge) if crosses else None
        return path.replace("{id}", quote(call.model or "", safe="/:@")), plan

    def _over(
        self,
        plan: Plan,
        upstream: Upstream,
        path: str,
        headers: Mapping[str, str],
        handle: Handle,
    ) -> UpstreamReply:
        """The answer of an upstream that is spoken to in chats, as one answer to the call."""

        def send(part: Part, own: Handle) -> UpstreamReply:
            named = headers_of(part, plan, headers)
            return self._egress.send(upstream, "POST", path, part.body, named, own)

        limits = self.parts.config.limits
        way = Way(
            send=send,
            handle=handle,
            parallel=upstream.bridge.parallel,
            reply_bytes=limits.reply_bytes,
            event_bytes=limits.event_bytes,
            unsent=_RETRIABLE,
        )
        # It has the interface, and nothing behind it can tell: the bridge itself knows no network.
        return cast(UpstreamReply, cross(plan, way))

    def _tell(self, exchange: Exchange, record: Record) -> None:
        record = priced(record, self.parts.prices)
        self.evidence.over(exchange, record)
        told = chain.tell(self.parts.chain.log_exchange, record, self.running)
        self.gate.told({name: taken for name, taken in told.items() if name in self._required})


def _client(environ: Mapping[str, Any]) -> Any:
    """The caller's socket, where the server shows it."""
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


def _headers(
    upstream: Upstream, provider: Provider, call: Call, credentials: Credentials
) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if call.endpoint in BODILESS:
        del headers["content-type"]
    headers["user-agent"] = "outgate"
    headers |= wire.passed_on(call.headers, (*wire.PASSED, *upstream.pass_headers))
    key = (
        credentials.provider
        if upstream.pass_caller_credential and credentials.provider
        else upstream.credential
    )
    if key:
        headers[provider.credential_header] = provider.credential_prefix + key.reveal()
    # From a plugin, which vouches for its form: a caller's own never passes by itself.
    if upstream.trace and isinstance(trace := call.notes.get("traceparent"), str):
        headers["traceparent"] = trace
    return headers


def _crossed(plan: Plan | None) -> dict[str, Any]:
    """What the record tells of the bridge, also that an upstream asked later did not need it."""
    if plan is None:
        return {"bridged": 0, "bridged_digest": None}
    return {"bridged": len(plan.parts), "bridged_digest": plan.digest}


def _no_such_model(call: Call) -> ApiError:
    return ApiError(
        f"The model {str(call.model)[:128]!r} does not exist or you do not have access to it.",
        status=404, type="invalid_request_error", code="model_not_found", param="model",
    )  # fmt: skip
