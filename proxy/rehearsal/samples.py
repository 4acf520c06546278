"""Calls to judge that are not live: those of an audit trail, or lines of JSON."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from proxy import jsonio
from proxy.audit import calls as trail
from proxy.audit.content import Opened, by_fingerprint, opened
from proxy.audit.envelope import EnvelopeError
from proxy.audit.reading import search
from proxy.convert import convert
from proxy.errors import ConfigError, InvalidRequest
from proxy.frozen import FrozenDict, freeze
from proxy.model import Call, Endpoint, Principal
from proxy.reading import peek
from proxy.rehearsal.decision import Decision, Judged
from proxy.rehearsal.judging import fingerprint

Progress = Callable[[int], None]
_DEPTH: Final = 1024
_OK: Final = 200


class Sample(Struct, frozen=True, kw_only=True):
    """A call as it is put before a judge; ``recorded`` is what was decided about it when it was live."""

    call: Call
    recorded: Judged
    time: str = ""
    status: int = _OK
    reply: bytes | None = None


class Skipped(Struct, frozen=True):
    """A call that cannot be judged, and why not."""

    id: str
    why: str


class Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of sample traffic; ``denied_by`` and ``code`` are there where it is to be refused as it was.

    ``reply`` is the body of a whole reply, ``model`` the path parameter of the endpoint ``model``.
    """

    endpoint: Endpoint
    body: dict[str, Any] = {}
    principal: str = "anyone"
    groups: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    headers: dict[str, str] = {}
    model: str | None = None
    reply: dict[str, Any] | None = None
    status: int = _OK
    id: str = ""
    time: str = ""
    denied_by: str | None = None
    code: str | None = None


def made(
    endpoint: Endpoint,
    body: Mapping[str, Any],
    principal: Principal,
    headers: Mapping[str, str] = FrozenDict(),
    *,
    id_: str = "",
    model: str | None = None,
) -> Call:
    """A call as the intake accepts it."""
    named = body.get("model", model)
    return Call(
        id=id_ or "req_rehearsal",
        endpoint=endpoint,
        body=freeze(body),
        principal=principal,
        headers=FrozenDict((name.lower(), value) for name, value in headers.items()),
        model=named if isinstance(named, str) else None,
        stream=body.get("stream") is True,
        deadline=time.monotonic(),
    )


def of_trail(
    directory: Path,
    private: Iterable[X25519PrivateKey],
    since: datetime | None = None,
    progress: Progress = lambda _: None,
) -> Iterator[Sample | Skipped]:
    """The calls of a trail that were sent, with the texts that were kept; raises ``OSError``, ``EnvelopeError``."""
    own = by_fingerprint(private)
    if not own:
        raise ConfigError(
            f"{directory}: the texts of a trail are sealed: give the auditor's --private-key"
        )
    for call in search(directory, trail.Query(since=since), progress):
        yield _of_call(call, own)


def _of_call(call: trail.Call, own: Mapping[str, X25519PrivateKey]) -> Sample | Skipped:
    if call.intent is None:
        return Skipped(call.id, "nothing was sent, so nothing was kept")
    try:
        texts = {text.side: text for text in opened(call.fields, call.id, own)}
    except EnvelopeError as error:
        return Skipped(call.id, f"cannot be opened: {error}")
    request = texts.get("request")
    if request is None:
        return Skipped(call.id, "its request was not kept (audit.content.request)")
    if not request.is_whole:
        return Skipped(call.id, "only its beginning was kept (audit.content.most_bytes)")
    try:
        body = jsonio.decode(request.text, depth=_DEPTH)
    except InvalidRequest:
        return Skipped(call.id, "what was kept is no JSON")
    asked = made(
        call.text("endpoint") or "chat",  # type: ignore[arg-type] # judged as any other
        body,
        _principal(call),
        id_=call.id,
        model=call.model,
    )
    status, reply = _reply(call, texts.get("reply"))
    return Sample(
        call=asked,
        recorded=_allowed(body, reply),
        time=call.time,
        status=status,
        reply=reply,
    )


def _principal(call: trail.Call) -> Principal:
    labels = call.fields.get("metadata")
    found = labels.items() if isinstance(labels, Mapping) else ()
    metadata = FrozenDict((str(name), str(value)) for name, value in found)
    return Principal(call.principal or "", tuple(call.texts("groups")), metadata)


def _reply(call: trail.Call, kept: Opened | None) -> tuple[int, bytes | None]:
    """The whole reply of a call that was answered; a stream is none."""
    shown = call.outcome in ("ok", "upstream_error") and call.fields.get("stream") is not True
    if kept is None or not kept.is_whole or not shown or not isinstance(peek(kept.text), dict):
        return _OK, None
    return int(call.number("status") or _OK), kept.text


def _allowed(body: Any, reply: bytes | None) -> Judged:
    return Judged(
        decision=Decision(
            verdict="allowed", findings=None, reply="unjudged" if reply is None else "shown"
        ),
        body=fingerprint(body, None),
        shown=None if reply is None else peek(reply),
    )


def of_lines(
    path: Path, since: datetime | None = None, progress: Progress = lambda _: None
) -> Iterator[Sample]:
    """The calls of a file with one JSON object a line; raises ``ConfigError`` which names the line, ``OSError``."""
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            progress(len(text))
            if not text.strip():
                continue
            line = _line(text, f"{path}:{number}")
            if since is None or not line.time or _moment(line.time, path, number) >= since:
                yield _sample(line, number)


def _line(text: bytes, where: str) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f'{where}: write an object, {{"endpoint": "chat", "body": {{…}}}}')
    if "endpoint" not in value:
        raise ConfigError(f"{where}: 'endpoint' is missing: write chat, completions or embeddings")
    return convert(value, Line, where=where)


def _moment(text: str, path: Path, number: int) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{path}:{number}: time = {text[:64]!r}: write it as 2026-08-01T12:00:00Z"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _sample(line: Line, number: int) -> Sample:
    principal = Principal(line.principal, line.groups, FrozenDict(line.metadata))
    call = made(
        line.endpoint, line.body, principal, line.headers,
        id_=line.id or f"line {number}", model=line.model,
    )  # fmt: skip
    reply = None if line.reply is None else jsonio.encode(line.reply)
    recorded = _allowed(call.body, reply)
    if line.denied_by is not None or line.code is not None:
        recorded = Judged(
            decision=Decision(verdict="denied", by=line.denied_by, code=line.code, findings=None)
        )
    return Sample(call=call, recorded=recorded, time=line.time, status=line.status, reply=reply)
