"""What a call asks of the cache: whether its answer would be the same again, for whom, and under which name."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from proxy import Call

Per: TypeAlias = Literal["principal", "team", "all"]
#: How an answer is delivered; it says the same either way.
_DELIVERY: Final = frozenset({"stream", "stream_options"})
#: With one of these a call does more than to answer, looks elsewhere, or answers with what expires.
_NOT_ALONE: Final = frozenset({"store", "web_search_options", "audio", "background"})
_OWN_TOOLS: Final = frozenset({"function", "custom"})
_ENDED: Final = frozenset({"stop", "length", "tool_calls", "function_call"})
_MAX_AGE: Final = re.compile(r'max-age="?([0-9]{1,9})"?')


def subject(per: Per, call: Call) -> list[str]:
    """Who shares an answer: never a caller with a team, and without a team only the caller itself."""
    principal = call.principal
    team = principal.metadata.get("team")
    if per == "all":
        return ["all"]
    return ["team", team] if per == "team" and team else ["principal", principal.name]


def is_repeatable(call: Call, *, sampled: bool) -> bool:
    """Whether the same call may have the same answer: embeddings, and texts of which nothing is drawn by lot.

    A text counts as such with ``temperature`` 0 and one answer. A ``seed`` is no promise (OpenAI API reference:
    best effort), and a model's default temperature is not known here.
    """
    body = call.body
    if any(body.get(name) for name in _NOT_ALONE) or not _has_own_tools(body.get("tools")):
        return False
    if call.endpoint == "embeddings" or sampled:
        return True
    temperature = body.get("temperature")
    return (
        type(temperature) in (int, float)
        and temperature == 0
        and all(body.get(name) in (None, 1) for name in ("n", "best_of"))
    )


def message(call: Call, who: list[str], digest: str, headers: Iterable[str]) -> bytes:
    """Everything that an answer depends on, in one form."""
    body = {name: value for name, value in call.body.items() if name not in _DELIVERY}
    sent = {name: call.headers[name] for name in sorted(headers) if name in call.headers}
    parts = [1, digest, who, call.endpoint, sent, body]
    return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()


class Wishes:
    """``cache-control`` of a request (RFC 9111, section 5.2.1), as far as it concerns a cache like this one.

    ``no-cache``: ask the upstream, and keep what it says. ``no-store``: leave the cache out altogether.
    ``max-age``: nothing older. What else it says changes nothing.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        said = [part.strip().lower() for part in headers.get("cache-control", "").split(",")]
        self.keep = "no-store" not in said
        self.answer = self.keep and "no-cache" not in said
        ages = [int(found[1]) for part in said if (found := _MAX_AGE.fullmatch(part))]
        self.max_age = min(ages, default=None)


def is_whole(endpoint: str, body: Mapping[str, Any]) -> bool:
    """Whether a reply of status 200 is the whole of an answer: ended by itself, and no error in it."""
    if body.get("error"):
        return False
    rows = body.get("data" if endpoint == "embeddings" else "choices")
    if not isinstance(rows, list) or not rows:
        return False
    return endpoint == "embeddings" or all(
        isinstance(row, Mapping) and row.get("finish_reason") in _ENDED for row in rows
    )


def _has_own_tools(tools: Any) -> bool:
    """Whether every tool is the caller's: what a provider's own tool finds is other tomorrow."""
    rows = tools if isinstance(tools, list) else []
    return all(isinstance(tool, Mapping) and tool.get("type") in _OWN_TOOLS for tool in rows)
