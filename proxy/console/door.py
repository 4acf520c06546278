"""Lets in who shows the token, from where they may come, and sends every answer with the same strict headers."""

import ipaddress
import time
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from flask import Request, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound

from proxy import wire
from proxy.console.access import IDLE, Guesses, Session, Sessions
from proxy.console.table import PATH, ConsoleTable
from proxy.console.view import View

COOKIE: Final = "outgate_console"
#: No script, no style and no picture from elsewhere; nothing inline; in nobody's frame.
CONTENT_POLICY: Final = "; ".join(
    f"{name} {source}"
    for name, source in {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }.items()
)
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" a browser would not say where a form was sent from.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
#: What a web server in front adds: a request with one of these did not begin on this machine.
_FORWARDED: Final = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via")
#: The largest form that is read, in bytes.
_LARGEST_FORM: Final = 4096
#: Of style and icon: their addresses change with them.
FILES_LAST: Final = "public, max-age=31536000, immutable"
_READ: Final = frozenset({"GET", "HEAD"})
_BEARER: Final = "bearer"


class Door:
    """``enter`` before every page, ``leave`` after it; both are hooks of the blueprint."""

    def __init__(self, table: ConsoleTable, trusted: Collection[str], view: View) -> None:
        self._table, self._trusted, self._view = table, trusted, view
        self._sessions = Sessions(table.token)
        self._guesses = Guesses()

    def enter(self) -> Response | None:
        """Nothing for who may see the page; else the answer, which is the same whatever was asked for.

        Raises ``NotFound`` where the page is not to be seen at all.
        """
        if self._table.loopback_only and not is_local(request):
            raise NotFound
        g.outgate_console = True
        if request.endpoint == "console.file":
            return None
        g.outgate_session = session = self._session()
        if request.path == f"{PATH}/out" and request.method == "POST":
            return self._out()
        if session is not None and request.method in _READ:
            return None
        shown = self._shown()
        return self._refuse() if shown is None else self._try(shown)

    def _session(self) -> Session | None:
        cookie = request.cookies.get(COOKIE)
        return self._sessions.read(cookie, time.time()) if cookie else None

    def _shown(self) -> str | None:
        """The token that this request shows: as a bearer, or in the form of the login page."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == _BEARER:
            return token.strip()
        if request.method != "POST" or not is_from_here(request):
            return None
        request.max_content_length = _LARGEST_FORM
        try:
            return request.form.get("token", "").strip()
        except HTTPException:  # too large, or no form
            return None

    def _try(self, shown: str) -> Response | None:
        address = wire.client_address(request.environ, self._trusted)
        wait = self._guesses.take(address)
        if wait > 0:
            return self._view.page("wait.html", 429, {"retry-after": str(int(wait) + 1)}, wait=wait)
        if not self._sessions.is_token(shown):
            return self._refuse(wrong=request.method == "POST")
        self._guesses.forgive(address)
        if request.method in _READ:
            return None
        if "Authorization" in request.headers:
            return self._not_offered()
        answer = _to(_here())
        return self._signed_in(answer, self._sessions.begin(time.time()))

    def _refuse(self, *, wrong: bool = False) -> Response:
        """To everybody without a session the same, whether the page exists or not."""
        if g.outgate_session is not None:
            return self._not_offered()
        headers = {"www-authenticate": 'Bearer realm="outgate console"'}
        return self._view.page("login.html", 401, headers, wrong=wrong)

    def _not_offered(self) -> Response:
        return self._view.page("readonly.html", 405, {"allow": "GET, HEAD"})

    def _out(self) -> Response:
        answer = _to(PATH)
        if is_from_here(request):
            answer.delete_cookie(
                COOKIE, path=PATH, secure=request.is_secure, httponly=True, samesite="Strict"
            )
            g.outgate_session = None
        return answer

    def _signed_in(self, answer: Response, cookie: str) -> Response:
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=IDLE,
            path=PATH,
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    def leave(self, answer: Response) -> Response:
        """The headers; and a session that is used goes on."""
        if not g.get("outgate_console"):
            return answer
        answer.headers.update(_HEADERS)
        is_file = request.endpoint == "console.file"
        answer.headers["cache-control"] = FILES_LAST if is_file else "no-store"
        session, now = g.get("outgate_session"), time.time()
        if session is not None and session.is_due(now):
            self._signed_in(answer, self._sessions.renew(session, now))
        return answer


def _to(path: str) -> Response:
    return Response("", 303, {"location": path})


def _here() -> str:
    """The page that was asked for, as a path: never another host's."""
    query = quote(request.query_string, safe="=&%+.:-_~*")
    return quote(request.path) + (f"?{query}" if query else "")


def is_from_here(asked: Request) -> bool:
    """Whether a form was sent from a page of ours: browsers say so, and no page can make them lie."""
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = asked.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == asked.headers.get("Host")


def is_local(asked: Request) -> bool:
    """Whether a request began on this machine, and was meant for it: a name that somebody pointed here is refused."""
    if any(name in asked.headers for name in _FORWARDED):
        return False
    if not _is_loopback(asked.remote_addr or ""):
        return False
    try:
        host = urlsplit(f"//{asked.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
