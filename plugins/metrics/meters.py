"""What is counted of each call, under how many labels at most."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from proxy import Globs, Record

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

    Meter: TypeAlias = Counter | Gauge | Histogram

_OTHER = "other"
_LONGEST = 100
_NANO = 1e9
_CLIENT_ERROR = 400
_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_HOOK = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2, 5)
#: Name, help, labels.
_COUNTERS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("calls", "Calls that ended.", ("endpoint", "model", "outcome", "status")),
    ("refusals", "Calls that were refused here.", ("plugin", "code")),
    ("retried_calls", "Calls that an SDK sent again.", ("endpoint",)),
    ("tokens", "Tokens as upstreams counted them.", ("model", "kind")),
    ("spared_tokens", "Tokens of calls that a plugin answered instead.", ("model", "kind")),
    ("cost", "Cost in the currency of the prices.", ("model", "team")),
    ("bytes", "Bytes of bodies.", ("direction",)),
    ("stream_events", "Events of streams that were passed on.", ("model",)),
    ("findings", "What detectors found.", ("kind", "action")),
    ("hook_verdicts", "What plugins did.", ("plugin", "hook", "verdict")),
    ("upstream_replies", "Replies of upstreams.", ("upstream", "status")),
    ("upstream_errors", "Upstreams that gave no complete answer.", ("upstream", "kind")),
)
_HISTOGRAMS: Sequence[tuple[str, str, tuple[str, ...], tuple[float, ...]]] = (
    ("call_seconds", "From the first byte to the last.", ("endpoint", "stream"), _SLOW),
    ("proxy_seconds", "Spent in Outgate, without the upstream and the caller.", ("endpoint", "stream"), _FAST),
    ("first_byte_seconds", "Until the caller's first byte.", ("upstream", "stream"), _SLOW),
    ("upstream_seconds", "Until the head of the upstream's answer.", ("upstream",), _SLOW),
    ("hook_seconds", "Time in one hook of one plugin.", ("plugin", "hook"), _HOOK),
)  # fmt: skip


class Meters:
    """The meters of one process; ``path`` is where several processes keep them, None if there is one."""

    def __init__(self, path: Path | None, models: Sequence[str], most: int) -> None:
        self._path = path
        import prometheus_client as prometheus  # not before it was told how to count

        self._models, self._most = Globs(models), most
        self._known: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        # Several processes are read from their files, so nothing is registered twice.
        self._registry = prometheus.CollectorRegistry() if path is None else None
        made: Any = {"registry": self._registry}
        self._counters = {
            name: prometheus.Counter(f"outgate_{name}", text, labels, **made)
            for name, text, labels in _COUNTERS
        }
        self._histograms = {
            name: prometheus.Histogram(f"outgate_{name}", text, labels, buckets=buckets, **made)
            for name, text, labels, buckets in _HISTOGRAMS
        }
        self._gauges: dict[str, Gauge] = {}
        self._found: dict[tuple[str, tuple[object, ...]], Any] = {}

    def count(self, record: Record) -> None:
        """Everything of one call that is counted."""
        model = self._model(record)
        stream, endpoint = str(record.stream).lower(), record.endpoint
        self._add("calls", endpoint, model, record.outcome, record.status)
        self._observe("call_seconds", record.seconds, endpoint, stream)
        if record.proxy_seconds is not None:
            self._observe("proxy_seconds", record.proxy_seconds, endpoint, stream)
        if record.outcome == "denied":
            self._add("refusals", record.denied_by or "", self._few("code", record.code))
        if record.retry_count:
            self._add("retried_calls", endpoint)
        self._count_sizes(record, model)
        self._count_upstream(record, stream)
        for finding in record.findings:
            self._add("findings", self._few("kind", finding.kind), finding.action)
        for verdict in record.verdicts:
            self._add("hook_verdicts", verdict.plugin, verdict.hook, verdict.verdict)
            self._observe("hook_seconds", verdict.milliseconds / 1000, verdict.plugin, verdict.hook)

    def look(self, vitals: Mapping[str, float]) -> None:
        """Write down how this process is: sums over the processes that live, of times the longest."""
        for name, value in vitals.items():
            mode = "livemax" if name.endswith("_seconds") else "livesum"
            self._gauge(name, mode).set(value)

    def describe(self, digest: str) -> None:
        """Say which configuration this process serves."""
        text = "Processes that serve a configuration, by its digest."
        self._gauge("processes", "livesum", text, ("digest",)).labels(digest[:16]).set(1)

    def page(self, accept: str) -> tuple[bytes, str]:
        """What a scraper reads, in the form it asks for, and its content type."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if registry is None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._path))  # type: ignore[no-untyped-call]
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    def _count_sizes(self, record: Record, model: str) -> None:
        self._add("bytes", "in", by=record.bytes_in)
        self._add("bytes", "sent", by=record.bytes_sent)
        self._add("bytes", "out", by=record.bytes_out)
        if record.events:
            self._add("stream_events", model, by=record.events)
        usage = record.usage
        for kind in ("prompt", "completion", "cached") if usage else ():
            tokens = getattr(usage, f"{kind}_tokens")
            if tokens is not None and tokens >= 0:
                name = "tokens" if record.answered_by is None else "spared_tokens"
                self._add(name, model, kind, by=tokens)
        cost = record.cost_nano
        if isinstance(cost, int) and cost >= 0:
            team = self._few("team", record.metadata.get("team"))
            self._add("cost", model, team, by=cost / _NANO)

    def _count_upstream(self, record: Record, stream: str) -> None:
        upstream = record.upstream or ""
        if record.upstream_status is not None:
            self._add("upstream_replies", upstream, record.upstream_status)
        if record.upstream_seconds is not None:
            self._observe("upstream_seconds", record.upstream_seconds, upstream)
        if record.first_byte_seconds is not None:
            self._observe("first_byte_seconds", record.first_byte_seconds, upstream, stream)
        for failure in record.failures:
            self._add("upstream_errors", failure.upstream, failure.kind)

    def _add(self, name: str, *labels: object, by: float = 1) -> None:
        self._of(self._counters, name, labels).inc(by)

    def _observe(self, name: str, value: float, *labels: object) -> None:
        self._of(self._histograms, name, labels).observe(value)

    def _of(self, meters: Mapping[str, Any], name: str, labels: tuple[object, ...]) -> Any:
        """One meter with its labels: the library takes longer to find it than to count."""
        found = self._found.get((name, labels))
        if found is None:
            found = self._found[name, labels] = meters[name].labels(*map(str, labels))
        return found

    def _gauge(self, name: str, mode: Any, text: str = "", labels: Sequence[str] = ()) -> "Gauge":
        gauge = self._gauges.get(name)
        if gauge is None:
            from prometheus_client import Gauge

            with self._lock:
                gauge = self._gauges.get(name) or Gauge(
                    f"outgate_{name}",
                    text or f"{name.replace('_', ' ').capitalize()}, at this moment.",
                    labels,
                    multiprocess_mode=mode,
                    registry=self._registry,
                )
                self._gauges[name] = gauge
        return gauge

    def _model(self, record: Record) -> str:
        """The model as a label. A caller may write any name: only one that an upstream answered gets its own."""
        name, status = record.model, record.upstream_status
        if name is not None and not self._models.match(name):
            return _OTHER
        answered = status is not None and status < _CLIENT_ERROR
        return self._few("model", name, new=answered or record.answered_by is not None)

    def _few(self, label: str, value: str | None, *, new: bool = True) -> str:
        """``value`` if it is among the first values of this label, else ``other``."""
        if not value:
            return ""
        text = "".join(letter if " " <= letter <= "~" else "?" for letter in value[:_LONGEST])
        known = self._known.setdefault(label, set())
        if text not in known:
            with self._lock:
                if not new or len(known) >= self._most:
                    return _OTHER
                known.add(text)
        return text
