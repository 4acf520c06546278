"""What the audit commands print: text that no terminal acts upon, whatever somebody wrote into a record."""

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from proxy.audit.calls import Call, Place

_LONGEST: Final = 120
_DELETE: Final = "\x7f"


def plain(value: Any) -> str:
    """``value`` in printable ASCII; everything else is escaped."""
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape").decode()
        for char in str(value)
    )


def shown(value: Any) -> str:
    """A cell of a table: ``-`` for nothing, and not too long."""
    if value is None or value == "":
        return "-"
    text = plain(f"{value:.3f}" if isinstance(value, float) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...(+{len(text) - _LONGEST})"


def print_table(rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as they need; the first row is the head."""
    table = [[*map(shown, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON in printable ASCII."""
    return json.dumps(value, indent=indent).replace(_DELETE, "\\u007f")


def flat(call: Call) -> dict[str, Any]:
    """A call for JSON: its fields, and in ``records`` where they stand."""
    records = {"intent": _place(call.intent), "outcome": _place(call.ended)}
    return {
        **call.fields,
        "id": call.id,
        "time": call.time,
        "outcome": call.outcome,
        "records": records,
    }


def _place(place: Place | None) -> Mapping[str, Any] | None:
    if place is None:
        return None
    return {"segment": place.segment, "seq": place.seq, "time": place.time}


def counted(call: Call) -> str:
    """Kinds of findings and how often: ``email, us-ssn x2``."""
    counts: dict[str, int] = {}
    for finding in call.findings:
        kind = str(finding.get("kind"))
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(kind if count == 1 else f"{kind} x{count}" for kind, count in counts.items())


def progress_bar(length: int, label: str) -> Any:
    """A bar on the terminal, beside what a command prints and not in it."""
    file = sys.stderr if sys.stderr.isatty() else io.StringIO()
    return click.progressbar(length=length, label=label, file=file)
