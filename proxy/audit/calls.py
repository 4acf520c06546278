"""A call as the trail tells it: what its intent and its outcome say, put together, and questions about it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy.audit.records import Entry
from proxy.patterns import Globs

#: The ``outcome`` of a call that has none yet.
OPEN: Final = "open"
#: The member of an intent and of an outcome that holds encrypted texts, see ``content``.
CONTENT: Final = "content"
_PLACE_OF_INTENT: Final = "intent"


class Place(Struct, frozen=True):
    """Where a record stands, and when it was made."""

    segment: str
    seq: int
    time: str


class Call(Struct, frozen=True, kw_only=True):
    """One call. ``fields`` are those of the intent, overruled by those of the outcome.

    ``time`` is when it began (ISO 8601, UTC, microseconds). Without ``intent`` nothing was sent, or retention removed
    that record; without ``ended`` the call is in flight, or its process died and nobody recovered yet. What stands in
    ``fields`` was not verified: everything here gives ``None`` or nothing where it is not of the kind it should be.
    """

    id: str
    time: str
    fields: Mapping[str, Any]
    intent: Place | None = None
    ended: Place | None = None

    @property
    def outcome(self) -> str:
        """``ok``, ``denied`` and so on, ``recovered``, or ``open``."""
        return (self.text("outcome") or "?") if self.ended is not None else OPEN

    @property
    def principal(self) -> str | None:
        """Who called."""
        return self.text("principal")

    @property
    def key(self) -> str | None:
        """The id of the caller's key, or the caller's name if keys have no ids."""
        return self.label("key") or self.principal

    @property
    def team(self) -> str | None:
        """The caller's team."""
        return self.label("team")

    @property
    def model(self) -> str | None:
        """The model that was asked for, as rewritten."""
        return self.text("model")

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What detectors found: kind, place, plugin, action."""
        return self.items("findings")

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """What each plugin did: plugin, hook, verdict, milliseconds, detail."""
        return self.items("verdicts")

    def text(self, name: str) -> str | None:
        """A field that is a text."""
        found = self.fields.get(name)
        return found if isinstance(found, str) else None

    def number(self, name: str, inside: str = "") -> float | None:
        """A field that is a number; ``inside`` another field, such as ``usage``."""
        fields = self.fields.get(inside) if inside else self.fields
        found = fields.get(name) if isinstance(fields, Mapping) else None
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def label(self, name: str) -> str | None:
        """What the caller's ``metadata`` says."""
        labels = self.fields.get("metadata")
        found = labels.get(name) if isinstance(labels, Mapping) else None
        return found if isinstance(found, str) else None

    def items(self, name: str) -> list[dict[str, Any]]:
        """A field that is a list of objects."""
        found = self.fields.get(name)
        listed = found if isinstance(found, list | tuple) else []
        return [item for item in listed if isinstance(item, dict)]

    def texts(self, name: str) -> list[str]:
        """A field that is a list of texts."""
        found = self.fields.get(name)
        listed = found if isinstance(found, list | tuple) else []
        return [item for item in listed if isinstance(item, str)]


class Query(Struct, frozen=True, kw_only=True):
    """Which calls are wanted; everything that is given must fit.

    ``since`` (inclusive) and ``until`` (exclusive) are about when a call began. Texts are names in which ``*`` and
    ``?`` are wild; ``plugin`` and ``verdict`` must fit the same verdict, ``finding`` is the kind of any finding, and
    ``text`` stands anywhere in the record, in any case.
    """

    since: datetime | None = None
    until: datetime | None = None
    key: str | None = None
    team: str | None = None
    principal: str | None = None
    model: str | None = None
    endpoint: str | None = None
    upstream: str | None = None
    outcome: str | None = None
    code: str | None = None
    plugin: str | None = None
    verdict: str | None = None
    finding: str | None = None
    text: str | None = None

    def has_time(self, time: str) -> bool:
        """Whether a call that began then may be wanted."""
        if self.since is not None and time < written(self.since):
            return False
        return self.until is None or time < written(self.until)

    def matches(self, call: Call) -> bool:
        """Whether a call is wanted."""
        return (
            self.has_time(call.time)
            and self._is_of(call)
            and self._was_judged(call)
            and self._has_finding(call)
            and (self.text is None or _holds(call, self.text))
        )

    def _is_of(self, call: Call) -> bool:
        return all(
            _fits(glob, found)
            for glob, found in (
                (self.outcome, call.outcome),
                (self.key, call.key),
                (self.team, call.team),
                (self.principal, call.principal),
                (self.model, call.model),
                (self.endpoint, call.text("endpoint")),
                (self.upstream, call.text("upstream")),
                (self.code, call.text("code")),
            )
        )

    def _was_judged(self, call: Call) -> bool:
        if self.plugin is None and self.verdict is None:
            return True
        return any(
            _fits(self.plugin, found.get("plugin")) and _fits(self.verdict, found.get("verdict"))
            for found in call.verdicts
        )

    def _has_finding(self, call: Call) -> bool:
        return self.finding is None or any(
            _fits(self.finding, found.get("kind")) for found in call.findings
        )


@lru_cache(maxsize=64)
def written(moment: datetime) -> str:
    """As records write it, so that texts compare like times; without a zone it is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="microseconds")


def begun(entry: Entry) -> Call:
    """The call of an intent."""
    time = _moment(entry.body.get("time")) or entry.time
    return Call(id=str(entry.body.get("id")), time=time, fields=entry.body, intent=_place(entry))


def ended(call: Call | None, entry: Entry) -> Call:
    """The call together with its outcome; ``None`` if its intent is not known."""
    body = entry.body
    if entry.kind == "recovered":
        body = {"id": body.get("id"), "outcome": "recovered"}
    if call is None:
        found = entry.body.get(_PLACE_OF_INTENT)
        there = found if isinstance(found, dict) else {}
        time = _moment(body.get("time")) or _moment(there.get("time")) or entry.time
        return Call(id=str(body.get("id")), time=time, fields=body, ended=_place(entry))
    fields = {**call.fields, **body}
    both = [found for found in (call.fields.get(CONTENT), body.get(CONTENT)) if found is not None]
    if all(isinstance(found, dict) for found in both) and both:
        fields[CONTENT] = {name: text for found in both for name, text in found.items()}
    return msgspec.structs.replace(call, fields=fields, ended=_place(entry))


def _place(entry: Entry) -> Place:
    return Place(entry.segment, entry.seq, entry.time)


def _moment(text: Any) -> str | None:
    try:
        return written.__wrapped__(datetime.fromisoformat(text))
    except (TypeError, ValueError, OverflowError):
        return None


def _fits(glob: str | None, found: Any) -> bool:
    return glob is None or (isinstance(found, str) and _globs(glob).match(found))


@lru_cache(maxsize=256)
def _globs(glob: str) -> Globs:
    return Globs([glob])


def _holds(call: Call, text: str) -> bool:
    encode = msgspec.json.encode  # leaves what is not ASCII as it is, on both sides
    whole = text.encode(errors="replace").decode()
    return encode(whole)[1:-1].decode().casefold() in encode(call.fields).decode().casefold()
