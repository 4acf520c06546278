"""What the harness gives and raises."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from proxy.model import Deny, Reply
from proxy.records import Record


class PluginFailed(AssertionError):
    """The plugin raised, edited its input, or broke another promise: never to be taken for its verdict."""


class Result(Struct, frozen=True):
    """What became of a call.

    ``denied`` is the refusal or None, ``body`` what the upstream gets (None: nothing), ``reply`` what the caller
    gets of the upstream's answer or the plugin's own, of a stream all of it put together, ``upstream`` the plugin's
    choice, ``headers`` those added to the reply, ``record`` what is logged, with ``record.verdicts`` and
    ``record.findings``, ``refusal`` how the caller is told of a refusal (status and body), or None, ``events``
    what the caller gets of a stream, one by one.
    """

    denied: Deny | None
    body: Any
    reply: Any
    upstream: str | None
    headers: Mapping[str, str]
    record: Record
    refusal: Reply | None = None
    events: tuple[Any, ...] = ()

    @property
    def left(self) -> Any:
        """What would have left the company: the final body, or None where nothing would."""
        return self.body

    @property
    def shown(self) -> str:
        """The text of the reply that the caller sees, its first choice; of a stream all of it."""
        return said(self.reply)

    @property
    def seconds(self) -> float:
        """How long the call took, all of it on this machine; to be looked at, not to be asserted."""
        return self.record.seconds


def said(reply: Any) -> str:
    """The text of the first choice of a whole reply, or nothing."""
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    first = choices[0] if choices else {}
    text = first.get("text") or (first.get("message") or {}).get("content")
    return text if isinstance(text, str) else ""
