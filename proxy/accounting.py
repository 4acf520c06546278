"""Keeps what the record of a call tells of its answer."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from proxy.exchange import Exchange
from proxy.prices import Prices
from proxy.records import Record, Usage
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


def priced(record: Record, prices: Prices) -> Record:
    """``record`` with what its tokens cost today, where its model has a price and the upstream counted."""
    usage = record.usage
    if not prices or usage is None or record.model is None:
        return record
    if record.answered_by is not None:
        return structs.replace(record, cost_nano=0)
    price = prices.price(record.model, datetime.now(UTC).date())
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    cached = usage.cached_tokens or 0
    if price is None or min(prompt, completion, cached) < 0:
        return record
    return structs.replace(record, cost_nano=price.cost(prompt, completion, cached))


def _cached(usage: Mapping[str, Any]) -> Any:
    """Of the prompt, what the upstream had read before (OpenAI API reference, ``prompt_tokens_details``)."""
    details = usage.get("prompt_tokens_details")
    return details.get("cached_tokens") if isinstance(details, dict) else None
