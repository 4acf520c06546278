"""Calls as lines: one below the other while they come, so columns have widths of their own."""

from collections.abc import Iterable
from typing import Final

import click

from proxy.audit.calls import Call
from proxy.cli.audit.printing import as_json, counted, flat, shown

_WIDTHS: Final = {
    "time (UTC)": 19, "id": 36, "outcome": 14, "status": 6, "principal": 14, "team": 10, "model": 18,
    "seconds": 7, "findings": 8,
}  # fmt: skip


class Lines:
    """Prints calls as they are given, with a head before the first one; as JSON, one object a line."""

    def __init__(self, *, json: bool) -> None:
        self.count = 0
        self._json = json

    def show(self, call: Call) -> None:
        """Print one."""
        if self._json:
            click.echo(as_json(flat(call)))
        else:
            if not self.count:
                click.echo(_line(_WIDTHS))
            click.echo(_line(map(shown, _cells(call))))
        self.count += 1


def _cells(call: Call) -> tuple[object, ...]:
    status = call.number("status")
    return (
        call.time[:19].replace("T", " "),
        call.id,
        call.outcome,
        None if status is None else int(status),
        call.principal,
        call.team,
        call.model,
        call.number("seconds"),
        counted(call),
    )


def _line(cells: Iterable[str]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS.values(), strict=True))
    return "  ".join(padded).rstrip()
