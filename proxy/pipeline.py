"""The way of one call: accepted by the intake, sent to an upstream, relayed back, recorded."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from proxy import chain, denials, outbox, wire
from proxy.accounting import priced
from proxy.answering import Answering
from proxy.breaker import Breakers
from proxy.egress import Handle, Watcher
from proxy.errors import ApiError, UpstreamError, as_api_error, outcome_of
from proxy.evidence import Evidence
from proxy.exchange import Answer, Denied, Exchange
from proxy.gate import Gate
from proxy.intake import Intake
from proxy.model import Call, Endpoint, Principal
from proxy.parts import Parts
from proxy.records import Record
from proxy.rehearsal.shadow import Shadow
from proxy.relay import Relay
from proxy.routes import Routes
from proxy.sender import Sender
from proxy.steps import Running
from proxy.tries import Tries, Ways

log: Final = logging.getLogger("outgate")


class Pipeline:
    """Takes calls from the web framework and answers them. One per process, shared by its threads."""

    def __init__(self, parts: Parts) -> None:
        limits = parts.config.limits
        self.parts = parts
        self.running = Running()
        self.gate = Gate(limits.concurrent_calls or 112, self.running, limits.hung_hooks)
        self.watcher = Watcher()
        self._relay = Relay(parts)
        self._answering = Answering(parts, self._relay)
        self._required = frozenset(
            step.plugin for step in parts.chain.log_exchange if step.required
        )
        self._intake = Intake(parts)
        self.evidence = Evidence(parts.config.audit, parts.digest)
        table, beside = parts.config.shadow, parts.shadow
        self.shadow = Shadow(table, beside, parts.digest) if table and beside else None
        self._ways = Ways(
            parts=parts,
            intake=self._intake,
            routes=Routes(parts.config.routes),
            breakers=Breakers(parts.upstreams.values()),
            sender=Sender(parts, self._intake, self.evidence),
            relay=self._relay,
        )

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
            answer = self._answering.answer(call, exchange)
            return answer or self._forward(environ, call, sent, exchange)
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
            "circuits_open": self._ways.breakers.open,
            **self.evidence.vitals(),
            **(self.shadow.vitals() if self.shadow else {}),
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
        self.watcher.close()
        self._ways.sender.close()
        if self.shadow is not None:
            self.shadow.close()
        self.evidence.close()
        if self.parts.store is not None:
            self.parts.store.close()

    def _opened(self, environ: Mapping[str, Any], endpoint: Endpoint) -> Exchange:
        client = wire.client_address(environ, self.parts.config.access.trusted_proxies)
        exchange = Exchange(endpoint, client, self.running, self._tell)
        exchange.facts["policy"] = self.parts.digest[:16]
        self.evidence.begin(exchange)
        exchange.witness = self.shadow.witness() if self.shadow else None
        return exchange

    def _forward(
        self, environ: Mapping[str, Any], call: Call, sent: bytes, exchange: Exchange
    ) -> Answer:
        handle = Handle()
        exchange.on_finish(lambda: self.watcher.unwatch(handle))
        client = _client(environ)

        def watch(limit: float) -> None:
            self.watcher.watch(handle, client, limit)

        return Tries(self._ways, call, sent, exchange, handle=handle, watch=watch).answer()

    def _tell(self, exchange: Exchange, record: Record) -> None:
        record = priced(record, self.parts.prices)
        self.evidence.over(exchange, record)
        told = chain.tell(self.parts.chain.log_exchange, record, self.running)
        self.gate.told({name: taken for name, taken in told.items() if name in self._required})
        if self.shadow is not None:
            self.shadow.offer(exchange, record)


def _client(environ: Mapping[str, Any]) -> Any:
    """The caller's socket, where the server shows it."""
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
