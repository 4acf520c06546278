"""One ICAP service: what it says of itself, and its verdict on a message."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from plugins.icap_guard.messages import (
    Garbled,
    Head,
    Message,
    chunked,
    exactly,
    head,
    is_body,
    read_head,
    split,
)
from proxy import Connection, Connections

T = TypeVar("T")
Verdict = Literal["pass", "blocked", "changed"]
_CONTINUE, _OK, _NO_CHANGE = 100, 200, 204
_LAST_OF_ALL = b"0; ieof\r\n\r\n"
#: Seconds that an answer to OPTIONS counts at most.
_LONGEST = 3600


@dataclass(frozen=True)
class Options:
    """What a service says of itself (RFC 3507 section 4.10.2); ``until`` is monotonic."""

    methods: frozenset[str]
    preview: int | None
    connections: int | None
    tag: str | None
    until: float


class Service:
    """A service for messages of one kind; safe to use from several threads. Every fault is an ``OSError``."""

    def __init__(
        self,
        connections: Connections,
        method: Literal["REQMOD", "RESPMOD"],
        *,
        preview: bool,
        retries: int,
    ) -> None:
        self._connections = connections
        self._limit = connections.limit
        self._method = method
        self._preview = preview
        self._retries = retries
        self._options: Options | None = None

    def judge(self, message: Message, about: dict[str, str], *, seconds: float) -> Verdict:
        """Its verdict; ``about`` are further headers of the question."""
        deadline = time.monotonic() + seconds
        options = self._options
        if options is None or options.until < time.monotonic():
            options = self._ask(self._asked_itself, seconds)
        size = options.preview if self._preview else None
        if size is not None:
            about = {**about, "Preview": str(min(size, len(message.body)))}
        question = partial(self._judged, message=message, about=about, preview=size)
        return self._ask(question, deadline - time.monotonic())

    def _ask(self, question: Callable[[Connection], T], seconds: float) -> T:
        return self._connections.ask(question, seconds=seconds, retries=self._retries)

    def _asked_itself(self, connection: Connection) -> Options:
        connection.sendall(self._head("OPTIONS", {"Encapsulated": "null-body=0"}))
        told = read_head(connection)
        if told.status != _OK:
            raise Garbled(f"it answered {told.status} to OPTIONS")
        methods = frozenset(told.fields.get("methods", "").replace(" ", "").upper().split(","))
        if self._method not in methods:
            raise Garbled(f"it knows no {self._method}")
        ends = told.parts()[-1] == ("null-body", 0)
        connection.keep = ends and _stays(told)
        lasts = min(told.number("options-ttl") or _LONGEST, _LONGEST)
        most = told.number("max-connections")
        self._connections.limit = min(self._limit, most or self._limit)
        self._options = Options(
            methods,
            told.number("preview"),
            most,
            told.fields.get("istag"),
            time.monotonic() + lasts,
        )
        return self._options

    def _judged(
        self, connection: Connection, message: Message, about: dict[str, str], preview: int | None
    ) -> Verdict:
        fields = {"Allow": "204", **about, "Encapsulated": message.encapsulated}
        start = b"".join((self._head(self._method, fields), *message.heads))
        if preview is None:
            connection.sendall(start + chunked(message.body))
            told = read_head(connection)
        else:
            told = _previewed(connection, start, message.body, preview)
        options = self._options
        if options and told.fields.get("istag", options.tag) != options.tag:
            self._options = None  # its rules are other ones now, and what it says of itself may be
        return _verdict(connection, told, message)

    def _head(self, method: str, fields: dict[str, str]) -> bytes:
        where = self._connections.where
        url = f"{where.scheme}://{where.authority}{where.path}"
        own = {"Host": where.authority, "User-Agent": "outgate"}
        return head(f"{method} {url} ICAP/1.0", {**own, **fields})


def _previewed(connection: Connection, start: bytes, body: bytes, preview: int) -> Head:
    """Show the beginning, and the rest if it is asked for."""
    whole = len(body) <= preview
    end = _LAST_OF_ALL if whole else chunked(b"")
    connection.sendall(start + chunked(body[:preview], end=end))
    told = read_head(connection)
    if told.status == _CONTINUE and not whole:
        connection.sendall(chunked(body[preview:]))
        told = read_head(connection)
    return told


def _verdict(connection: Connection, told: Head, message: Message) -> Verdict:
    parts = told.parts()
    if told.status == _NO_CHANGE:
        if parts != [("null-body", 0)]:
            raise Garbled("it changed nothing, and sent something")
        connection.keep = _stays(told)
        return "pass"
    if told.status != _OK or len(parts) < 2:  # noqa: PLR2004 - a head and a body, or none
        raise Garbled(f"it answered {told.status}, which is no verdict")
    heads = {name: exactly(connection, length) for name, length in split(parts)}
    kind = "req" if len(message.heads) == 1 else "res"
    theirs = heads.get(f"{kind}-hdr")
    if theirs is None:
        if "res-hdr" not in heads:
            raise Garbled("its answer holds no message")
        return "blocked"
    same = (
        theirs.split()[:2] == message.heads[-1].split()[:2]
    )  # method and URL, or version and status
    if same and parts[-1][0] == f"{kind}-body" and is_body(connection, message.body):
        connection.keep = _stays(told)
        return "pass"
    return "changed"


def _stays(told: Head) -> bool:
    return "close" not in told.fields.get("connection", "").lower()
