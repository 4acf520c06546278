"""Marks calls and replies: who called, under which label, with headers that later systems can read."""

import re
from dataclasses import dataclass, field

from proxy import Call, ConfigError, Principal, hookimpl

_FIELD = re.compile(r"\{(principal|team|key|model|id)\}")
_HEADER = re.compile(r"x-[a-z0-9-]{1,64}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_BODIES = ("completions", "chat", "embeddings")


@dataclass(frozen=True)
class Stamp:
    """``reply_headers`` (``x-…``) go to the caller, ``user`` to the upstream as the parameter ``user``.

    ``{principal}``, ``{team}``, ``{key}``, ``{model}`` and ``{id}`` are filled in, and nothing else is. What the
    caller wrote into ``user`` is replaced, unless ``keep_user`` is set. ``notes`` go into the record.
    """

    reply_headers: dict[str, str] = field(default_factory=dict)
    user: str = ""
    keep_user: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a header that no plugin may set, and when there is nothing to do."""
        if not (self.reply_headers or self.user or self.notes):
            raise ConfigError("nothing to do: set reply_headers, user or notes")
        for name in self.reply_headers:
            if not _HEADER.fullmatch(name):
                raise ConfigError(
                    f"reply_headers.{name}: write a name as x-label, in small letters"
                )

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        """The call with its marks."""
        headers = {name: _filled(text, call) for name, text in self.reply_headers.items()}
        marked = call.replace(reply_headers={**call.reply_headers, **headers})
        marked = marked.note(**{name: _filled(text, call) for name, text in self.notes.items()})
        theirs = self.keep_user and call.body.get("user")
        if self.user and call.endpoint in _BODIES and not theirs:
            marked = marked.with_body(user=_filled(self.user, call))
        return marked


def _filled(text: str, call: Call) -> str:
    """The operator's text in one pass; what a header cannot carry becomes ``?``."""
    who: Principal = call.principal
    values = {
        "principal": who.name,
        "team": who.metadata.get("team", ""),
        "key": who.metadata.get("key", ""),
        "model": call.model or "",
        "id": call.id,
    }
    filled = _FIELD.sub(lambda found: values[found[1]][:128], text)
    return _UNPRINTABLE.sub("?", filled)
