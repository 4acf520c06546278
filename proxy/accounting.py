"""Keeps what the record of a call tells of its answer."""

from collections.abc import Mapping
from typing import Any

from proxy.exchange import Exchange
from proxy.model import Usage
from proxy.stream import StreamState
from proxy.veil import Veil


def account(exchange: Exchange, state: StreamState, veil: Veil) -> None:
    """Keep what the record tells of the answer; counts that are no integers are left out."""
    counts = {name: (state.usage or {}).get(name) for name in Usage.__struct_fields__}
    if state.usage:
        counts["cached_tokens"] = _cached(state.usage)
        known = {name: count for name, count in counts.items() if type(count) is int}
        exchange.facts["usage"] = Usage(**known)
    exchange.facts["completion_characters"] = state.characters
    reasons = (reason for _, reason in sorted(state.finish_reasons.items()) if reason)
    exchange.facts["finish_reasons"] = tuple(veil.text(str(reason)) for reason in reasons)


def _cached(usage: Mapping[str, Any]) -> Any:
    """Of the prompt, what the upstream had read before (OpenAI API reference, ``prompt_tokens_details``)."""
    details = usage.get("prompt_tokens_details")
    return details.get("cached_tokens") if isinstance(details, Mapping) else None
