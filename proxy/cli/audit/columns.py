"""Calls as rows of a table: the columns of CSV and Parquet files."""

from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Struct

from proxy.audit.calls import Call, Place

Kind = Literal["text", "time", "integer", "number", "truth"]
_LARGEST: Final = 2**63 - 1


class Column(Struct, frozen=True):
    """One column: its name, what its cells are, and how a call fills it."""

    name: str
    kind: Kind
    cell: Callable[[Call], Any]


def _text(name: str) -> Column:
    return Column(name, "text", lambda call: call.text(name))


def _number(name: str) -> Column:
    return Column(name, "number", lambda call: call.number(name))


def _integer(name: str, inside: str = "") -> Column:
    return Column(name, "integer", lambda call: _whole(call.number(name, inside)))


def _whole(number: float | None) -> int | None:
    if number is None or not -_LARGEST <= number <= _LARGEST:
        return None
    return int(number)


def _place(name: str, of: Callable[[Call], Place | None]) -> tuple[Column, Column]:
    return (
        Column(f"{name}_segment", "text", lambda call: getattr(of(call), "segment", None)),
        Column(f"{name}_seq", "integer", lambda call: getattr(of(call), "seq", None)),
    )


def _truth(name: str) -> Column:
    return Column(name, "truth", lambda call: call.fields.get(name) is True)


def _joined(name: str, *parts: str) -> Column:
    return Column(
        name,
        "text",
        lambda call: " ".join(
            ":".join(str(item.get(part, "")) for part in parts) for item in call.items(name)
        ),
    )


COLUMNS: Final[tuple[Column, ...]] = (
    Column("id", "text", lambda call: call.id),
    Column("time", "time", lambda call: call.time),
    Column("ended", "time", lambda call: call.ended.time if call.ended else None),
    Column("outcome", "text", lambda call: call.outcome),
    _integer("status"),
    _number("seconds"),
    _number("first_byte_seconds"),
    _number("proxy_seconds"),
    _text("endpoint"),
    _text("principal"),
    Column("team", "text", lambda call: call.team),
    Column("key", "text", lambda call: call.key),
    Column("groups", "text", lambda call: " ".join(call.texts("groups"))),
    _text("client"),
    _text("model"),
    _truth("stream"),
    _text("upstream"),
    _integer("upstream_status"),
    _text("code"),
    _text("denied_by"),
    _text("answered_by"),
    _joined("findings", "kind", "action"),
    _joined("verdicts", "plugin", "hook", "verdict"),
    _integer("prompt_tokens", "usage"),
    _integer("completion_tokens", "usage"),
    _integer("total_tokens", "usage"),
    _integer("cost_nano"),
    _integer("bytes_in"),
    _integer("bytes_sent"),
    _integer("bytes_out"),
    _text("digest"),
    _text("policy"),
    *_place("intent", lambda call: call.intent),
    *_place("outcome", lambda call: call.ended),
)
