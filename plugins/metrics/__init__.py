"""``GET /metrics`` for Prometheus: what the calls of all worker processes add up to."""

import hmac
import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request

from plugins.metrics.meters import Meters
from plugins.metrics.shared import Shared, count_together, place
from proxy import ConfigError, Record, Secret, hookimpl

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("outgate.metrics")
_SHORTEST_TOKEN = 16
_EVERY = 1.0  # seconds between two looks at what cannot be counted, such as the calls inside
#: What a web server in front adds: a request with one of these did not begin on this machine.
_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via")


@dataclass(frozen=True)
class Metrics:
    """``token`` is what a scraper shows as ``Authorization: Bearer …``; without one, only this machine is answered.

    ``loopback`` asks for both. ``models`` are the names that may be a label, as globs; all others are ``other``, and
    so is what comes after the first ``most_labels`` values of a label. ``directory`` is where the worker
    processes keep their counts, by default one that goes with the service.
    """

    path: str = "/metrics"
    token: Secret | None = None
    loopback: bool = False
    models: tuple[str, ...] = ("*",)
    most_labels: int = 100
    directory: str | None = None
    _service: "_Service" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A path that is none, and a token that can be guessed, stop the start."""
        if not self.path.startswith("/") or set("<>?# ") & set(self.path):
            raise ConfigError(f'path {self.path!r}: write a plain path such as "/metrics"')
        if self.token is not None and len(self.token.reveal()) < _SHORTEST_TOKEN:
            raise ConfigError(f"token: shorter than {_SHORTEST_TOKEN} characters can be guessed")
        if self.most_labels < 1:
            raise ConfigError(f"most_labels = {self.most_labels}: write a number above zero")
        path = place(self.directory)
        if self.directory is not None and not os.access(self.directory, os.W_OK | os.X_OK):
            raise ConfigError(
                f"directory {self.directory!r}: name one that exists and that this user may write"
            )
        if path is not None:
            count_together(path)
        object.__setattr__(self, "_service", _Service(self, path))

    @hookimpl
    def init_app(self, app: Flask) -> None:
        """Add the page, and find out how the process is."""
        service = self._service
        running = app.extensions["outgate"]
        service.vitals, service.digest = running.vitals, running.parts.digest
        app.wsgi_app = _Begun(service, app.wsgi_app)  # type: ignore[method-assign]
        app.add_url_rule(
            self.path, "metrics", self._page, methods=["GET"], provide_automatic_options=False
        )

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        """Count the call."""
        self._service.meters().count(record)

    def _page(self) -> Response:
        if not self._is_welcome():
            return Response(
                "Not for you: ask the operator of this gateway for the token of the metrics.\n",
                401 if self.token is not None else 403,
                content_type="text/plain; charset=utf-8",
            )
        text, kind = self._service.shown(request.headers.get("Accept", ""))
        return Response(text, content_type=kind)

    def _is_welcome(self) -> bool:
        if (self.token is None or self.loopback) and not _is_local():
            return False
        if self.token is None:
            return True
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        expected = self.token.reveal().encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), expected)


def _is_local() -> bool:
    """Whether the request began on this machine; one that a web server passed on counts as from elsewhere."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


class _Begun:
    """Middleware: has the meters of a process begin with its first request, whatever that asks for."""

    def __init__(self, service: "_Service", app: "WSGIApplication") -> None:
        self._service = service
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer as a WSGI application does (PEP 3333)."""
        self._service.begin()
        return self._app(environ, start_response)


class _Service:
    """The meters of this process, made when they are first needed: a check of the configuration needs none."""

    def __init__(self, options: Metrics, path: Path | None) -> None:
        self._options = options
        self._path = path
        self._lock = threading.Lock()
        self._begun = False
        self._meters: Meters | None = None
        self._shared: Shared | None = None
        self.vitals: Callable[[], Mapping[str, float]] = dict
        self.digest = ""

    def meters(self) -> Meters:
        if self._meters is None:
            with self._lock:
                if self._meters is None:
                    self._meters = self._made()
        return self._meters

    def begin(self) -> None:
        """Called before every request; what it does is done after the first. No call depends on it."""
        if self._begun:
            return
        self._begun = True
        try:
            self.meters()
        except Exception:
            log.exception("metrics: nothing is counted here")

    def shown(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type."""
        meters = self.meters()
        meters.look(self.vitals())
        if self._shared is None:
            return meters.page(accept)
        self._shared.bury()
        with self._shared.locked():
            return meters.page(accept)

    def _made(self) -> Meters:
        options = self._options
        if self._path is not None:
            self._shared = Shared.opened(self._path)
        meters = Meters(self._path, options.models, options.most_labels)
        meters.describe(self.digest)
        if self._path is not None:
            threading.Thread(target=self._watch, args=(meters,), daemon=True).start()
        return meters

    def _watch(self, meters: Meters) -> None:
        """The scrape is answered by one process, so every other one has to write down how it is."""
        pause: Any = threading.Event()
        while True:
            meters.look(self.vitals())
            pause.wait(_EVERY)
