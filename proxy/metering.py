"""Has a stream say what it cost, and keeps that from a caller who did not ask for it."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from proxy.model import STREAMED, Call
from proxy.sse import Event, encode_event


class Metering(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[metering]``: whether upstreams are asked what a stream cost, where a plugin with ``admit`` wants to know."""

    ask_usage: bool = True


def asking(call: Call) -> Call | None:
    """``call`` with ``stream_options.include_usage``, or None where it asks for it already or never streams."""
    options = call.body.get("stream_options") or {}
    if call.endpoint not in STREAMED or not call.stream or options.get("include_usage") is True:
        return None
    return call.with_body(stream_options={**options, "include_usage": True})


def unasked(event: Event, payload: Any) -> tuple[Event | None, Any]:
    """An event without the usage that only we asked for; None where nothing else is in it.

    Usage beside choices stays: a server that sends it there does so unasked.
    """
    if not isinstance(payload, Mapping) or "usage" not in payload:
        return event, payload
    if payload["usage"] is not None:
        return (event, payload) if payload.get("choices") else (None, payload)
    shown = {key: value for key, value in payload.items() if key != "usage"}
    data = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Event(encode_event(data), data), shown
