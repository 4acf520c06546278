"""The way of one call: accepted by the intake, sent to an upstream, relayed back, recorded."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from proxy import chain, denials, params, wire
from proxy.chain import Running
from proxy.egress import Egress, Handle, UpstreamReply, Watcher
from proxy.errors import ApiError, UpstreamError, as_api_error, outcome_of
from proxy.exchange import Answer, Denied, Exchange
from proxy.gate import Gate
from proxy.intake import BODILESS, Intake
from proxy.model import Call, Credentials, Deny, Endpoint, Provider, Record, Upstream
from proxy.parts import Parts
from proxy.relay import Relay
from proxy.routes import Routes

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

    def handle(
        self, environ: Mapping[str, Any], endpoint: Endpoint, model: str | None = None
    ) -> Answer:
        """Answer one call; never raises. ``model`` is the path parameter of ``GET /v1/models/{id}``."""
        client = wire.client_address(environ, self.parts.config.access.trusted_proxies)
        exchange = Exchange(endpoint, client, self.running, self._tell)
        exchange.facts["policy"] = self.parts.digest[:16]
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

    def drain(self, seconds: float) -> None:
        """Refuse new calls and end those inside, each with an event or in full, within ``seconds``."""
        self.watcher.drain(self.gate.drain(seconds))

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
            raise Denied(
                Deny(name.message, name.code, name.param, status),
                exchange.trail.verdicts[-1].plugin,
            )
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
        path = provider.paths.get(call.endpoint)
        if path is None:
            raise ApiError(
                f"The upstream for this model does not offer {call.endpoint}.",
                status=404, type="invalid_request_error", code="endpoint_not_offered",
            )  # fmt: skip
        if upstream.strict and call.endpoint not in BODILESS:
            params.check(call.endpoint, call.body, strict=True)
        method = "GET" if call.endpoint in BODILESS else "POST"
        exchange.facts["upstream"] = upstream.name
        exchange.facts["attempts"] = exchange.facts.get("attempts", 0) + 1
        started = time.perf_counter()
        headers = _headers(upstream, provider, call, exchange.credentials)
        path = path.replace("{id}", quote(call.model or "", safe="/:@"))
        try:
            reply = self._egress.send(
                upstream, method, path, sent if method == "POST" else None, headers, handle
            )
        except ValueError:
            # Nothing was sent. In a path only the model can be at fault, a header is the operator's.
            if call.endpoint != "model":
                raise
            raise _no_such_model(call) from None
        exchange.on_finish(reply.close)
        exchange.facts |= {
            "upstream_address": reply.address,
            "upstream_status": reply.status,
            "upstream_seconds": round(time.perf_counter() - started, 6),
            "attempts": exchange.facts["attempts"] + reply.attempts - 1,
        }
        return reply

    def _tell(self, record: Record) -> None:
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
    return headers


def _no_such_model(call: Call) -> ApiError:
    return ApiError(
        f"The model {str(call.model)[:128]!r} does not exist or you do not have access to it.",
        status=404, type="invalid_request_error", code="model_not_found", param="model",
    )  # fmt: skip
