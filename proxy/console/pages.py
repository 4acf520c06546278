"""The pages of the console, and the blueprint that serves them: nothing here changes anything."""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, request

from proxy.audit.calls import Query
from proxy.console import loaded
from proxy.console.backwards import MOST, Budget
from proxy.console.calls import FIELDS, entries, query, search, together
from proxy.console.docs import Docs
from proxy.console.door import Door
from proxy.console.history import History
from proxy.console.overview import SPANS, overview
from proxy.console.record import details
from proxy.console.spend import PERIODS, spend
from proxy.console.table import PATH, ConsoleTable
from proxy.console.view import OUTCOMES, View
from proxy.pipeline import Pipeline
from proxy.scopes import ENDPOINTS

#: Seconds between two looks of a page that is live.
LIVE: Final = 10
_PAGE: Final = 50
#: Characters of a search.
_LONGEST: Final = 100
_ID: Final = re.compile(r"[\w.:-]{1,128}")
#: Everything is answered here, so that an unknown method tells no more than an unknown page.
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def install(
    app: Flask, table: ConsoleTable, running: Pipeline, directory: str | None = None
) -> None:
    """Put the page on an application; ``directory`` is that of the audit trail."""
    view = View()
    door = Door(table, running.parts.config.access.trusted_proxies, view)
    console = _Console(running, directory, view)
    pages = Blueprint("console", __name__, url_prefix=PATH)
    pages.before_request(door.enter)
    pages.after_request(door.leave)
    pages.add_url_rule("/static/<name>", "file", view.file, provide_automatic_options=False)
    for rule in ("", "/<path:rest>"):
        pages.add_url_rule(
            rule, "page", console.serve, methods=_METHODS, provide_automatic_options=False
        )
    app.register_blueprint(pages)


class _Console:
    def __init__(self, running: Pipeline, directory: str | None, view: View) -> None:
        self._running, self._directory, self._view = running, directory, view
        self._history = History(directory)
        self._docs = Docs()
        self._pages: dict[str, Callable[[], Response]] = {
            "": self._overview,
            "calls": self._calls,
            "spend": self._spend,
            "chain": self._chain,
        }

    def serve(self, rest: str = "") -> Response:
        """The page at a path."""
        first, _, id_ = rest.partition("/")
        if first == "calls" and _ID.fullmatch(id_):
            return self._record(id_)
        if first == "docs":
            return self._documentation(id_)
        page = self._pages.get(rest)
        return page() if page is not None else self._show("missing.html", "", 404)

    def _show(self, template: str, here: str, status: int = 200, **values: Any) -> Response:
        """A page within the frame that all have."""
        parts, gate = self._running.parts, self._running.gate
        live = here in ("overview", "calls") and request.args.get("live") == "1"
        return self._view.page(
            template,
            status,
            here=here,
            live=LIVE if live else None,
            link=_link,
            now=time.time(),
            digest=parts.digest,
            obstacles=gate.obstacles(),
            process=os.getpid(),
            **values,
        )

    def _overview(self) -> Response:
        span = _chosen("span", SPANS, "hour")
        picture = self._history.look()
        found, problem = self._found(Query(), 12, None)
        return self._show(
            "overview.html",
            "overview",
            spans=SPANS,
            span=span,
            shown=overview(picture, span, time.time()),
            calls=found.calls if found else [],
            problem=picture.problem or problem,
            vitals=_vitals(self._running.vitals()),
        )

    def _calls(self) -> Response:
        problem, wanted = None, Query()
        try:
            wanted = query(request.args)
            before = float(request.args["before"]) if "before" in request.args else None
        except ValueError as error:
            problem, before = str(error), None
        found, unread = self._found(wanted, _PAGE, before) if problem is None else (None, None)
        return self._show(
            "calls.html",
            "calls",
            fields={name: request.args.get(name, "") for name in (*FIELDS, "since", "until")},
            outcomes=list(OUTCOMES),
            endpoints=ENDPOINTS,
            found=found,
            paged=before is not None,
            most=MOST,
            problem=problem or unread,
        )

    def _found(self, wanted: Query, most: int, before: float | None) -> tuple[Any, str | None]:
        if self._directory is None:
            return None, "There is no [audit] in the configuration, so there is no record to show."
        try:
            return search(self._directory, wanted, most, Budget(), before), None
        except OSError as error:
            return (
                None,
                f"The audit trail cannot be read: {error.strerror or type(error).__name__}.",
            )

    def _record(self, id_: str) -> Response:
        if self._directory is None:
            return self._show("missing.html", "calls", 404)
        try:
            found, cut = entries(self._directory, id_)
        except OSError:
            found, cut = [], True
        call = together(found)
        if call is None:
            return self._show("unknown.html", "calls", 404, id=id_, cut=cut)
        return self._show("record.html", "calls", call=call, records=found, shown=details(call))

    def _spend(self) -> Response:
        period = _chosen("period", PERIODS, "week")
        return self._show(
            "spend.html",
            "spend",
            period=period,
            periods=PERIODS,
            spend=spend(self._running.parts, period),
        )

    def _chain(self) -> Response:
        parts = self._running.parts
        return self._show(
            "chain.html",
            "chain",
            plugins=loaded.plugins(parts),
            hooks=loaded.hooks(parts),
            detectors=loaded.detectors(parts),
            rules=loaded.rules(parts),
            settings=loaded.settings(parts),
            upstreams=list(parts.upstreams.values()),
            routes=loaded.routes(parts),
            audit=parts.config.audit,
        )

    def _documentation(self, name: str) -> Response:
        file = self._docs.file(name)
        if file is not None:
            return self._view.raw(file.content, file.kind)
        shown = self._docs.shown(
            name, request.args.get("search", "")[:_LONGEST] if not name else ""
        )
        lost = bool(name) and shown["paper"] is None
        return self._show("docs.html", "docs", 404 if lost else 200, lost=lost, **shown)


def _chosen(name: str, known: Mapping[str, object], default: str) -> str:
    given = request.args.get(name, default)
    return given if given in known else default


def _link(**changes: str | None) -> str:
    """This page with other settings; None leaves one out."""
    settings = {**request.args.to_dict(), **changes}
    given = {name: value for name, value in settings.items() if value}
    return f"?{urlencode(given, errors='replace')}" if given else request.path


def _vitals(found: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{value:g}") for name, value in found.items()]
