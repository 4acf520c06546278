"""Templates to pages: everything that one prints is made visible and escaped, whatever a plugin does to Flask."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flask import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.exceptions import NotFound

from proxy.console import sight
from proxy.console.table import PATH

HERE: Final = Path(__file__).parent
_TYPES: Final[Mapping[str, str]] = {"css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
#: Outcomes in the order of a chart, with the names of their colours and what they mean.
OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "ok": ("ok", "answered"),
    "denied": ("denied", "refused here"),
    "upstream_error": ("error", "the upstream failed"),
    "truncated": ("cut", "the reply broke off"),
    "client_gone": ("gone", "the caller hung up"),
    "recovered": ("lost", "the process died; how it ended is not known"),
    "open": ("open", "in flight"),
}


class View:
    """The templates of this package, in an environment of their own."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=sight.shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            seen=sight.seen,
            pretty=sight.pretty,
            clock=sight.clock,
            count=sight.count,
            duration=sight.duration,
            size=sight.size,
        )
        self._files = {path.name: path.read_bytes() for path in (HERE / "static").iterdir()}
        whole = b"".join(self._files[name] for name in sorted(self._files))
        version = hashlib.sha256(whole).hexdigest()[:12]
        self._environment.globals.update(PATH=PATH, OUTCOMES=OUTCOMES, version=version)

    def file(self, name: str) -> Response:
        """Style and icon; raises ``NotFound``."""
        if name not in self._files:
            raise NotFound
        return self.raw(self._files[name], _TYPES[name.rpartition(".")[2]])

    def raw(self, content: bytes, kind: str) -> Response:
        """Something as it is."""
        return Response(content, content_type=kind)

    def page(
        self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        """A page as an answer."""
        text = self._environment.get_template(name).render(**values)
        answer = Response(text, status, content_type="text/html; charset=utf-8")
        answer.headers.update(headers or {})
        return answer
