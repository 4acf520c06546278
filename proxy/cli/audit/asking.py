"""The options that say which calls are wanted, and times as people write them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Final

import click

from proxy.audit.calls import Query
from proxy.cli.moments import duration


def past(_context: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """``90m``, ``24h``, ``7d`` or ``2w`` ago, or a date, or a time; UTC without a zone. Raises ``BadParameter``."""
    if value is None:
        return None
    found = _time(value.strip())
    if found is None:
        raise click.BadParameter(
            f"{value!r} is no time: write 90m, 24h, 7d (ago), 2026-08-01 or 2026-08-01T12:00:00Z"
        )
    return found


def _time(text: str) -> datetime | None:
    try:
        if (seconds := duration(text)) is not None:
            return datetime.now(UTC) - timedelta(seconds=seconds)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_OPTIONS: Final = {
    "since": "Calls that began then or later: 24h, 7d (ago), 2026-08-01.",
    "until": "Calls that began before then.",
    "key": "The id of the caller's key, or the caller's name where keys have none.",
    "team": "The caller's team.",
    "principal": "The caller's name.",
    "model": "The model, as rewritten.",
    "endpoint": "chat, completions, embeddings, models, model.",
    "upstream": "The upstream that was asked last.",
    "outcome": "ok, denied, upstream_error, truncated, client_gone, recovered, open.",
    "code": "The error code.",
    "plugin": "A plugin that judged the call; with --verdict, that judged so.",
    "verdict": "pass, rewrite, deny, error; with 'monitor:' before it where it had no effect.",
    "finding": "A kind of finding.",
    "text": "Words anywhere in the record.",
}
_TIMES: Final = ("since", "until")


def query_options(*without: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options for every field of a ``Query``, as the argument ``query``; names take ``*`` and ``?``."""
    offered = {name: text for name, text in _OPTIONS.items() if name not in without}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def asked(**given: Any) -> Any:
            query = Query(**{name: given.pop(name) for name in offered})
            return function(query=query, **given)

        wrapped: Callable[..., Any] = asked
        for name, text in reversed(offered.items()):
            times: dict[str, Any] = {"callback": past, "metavar": "TIME"} if name in _TIMES else {}
            wrapped = click.option(f"--{name}", help=text, **times)(wrapped)
        return wrapped

    return decorate
