"""``outgate usage``: who used what, from the store's book."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from proxy.cli.moments import written
from proxy.cli.options import config_option
from proxy.cli.output import show_json, show_table
from proxy.cli.stores import Opened
from proxy.errors import ConfigError
from proxy.prices import shown_money

#: Columns that are left out of the table where nothing of the kind happened.
_RARE: Final = (
    *("refused", "failed", "retries", "cached", "estimated", "abandoned"),
    "cached_tokens",
)
_TIMES: Final = ("hour", "day")
#: What a spreadsheet would run.
_FORMULAS: Final = ("=", "+", "-", "@", "\t")


@click.command()
@config_option
@click.option(
    "--by",
    default="team,model",
    show_default=True,
    metavar="NAMES",
    help="hour, day, key, owner, team, model, upstream, endpoint: a row for each combination.",
)
@click.option("--since", default="30d", show_default=True, help="7d, 12h, 2w, or a date (UTC).")
@click.option("--until", help="The same; without it, now.")
@click.option(
    "--only", "chosen", multiple=True, metavar="NAME=VALUE", help="E.g. team=research; repeatable."
)
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)  # fmt: skip
def usage(
    path: str, by: str, *, since: str, until: str | None, chosen: tuple[str, ...], form: str
) -> None:
    """Show calls, tokens and cost, summed up; the plugin `budget` keeps the book.

    Hours are whole: --since cuts at the hour it falls in. Money of different currencies is never added up.

    \b
    Example:
      outgate usage --by team,model --since 7d
      outgate usage --by day --only key=key_0123456789abcdef --format csv
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    now = datetime.now(UTC)
    with Opened(path) as opened:
        book = opened.store.usage
        rows = book.report(
            names,
            since=book.moment(since, now),
            until=book.moment(until, now) if until else None,
            where=dict(map(_chosen, chosen)),
        )
    rows = [_timed(row) for row in rows]
    match form:
        case "json":
            show_json([{**row, "cost": shown_money(row["cost"])} for row in rows])
        case "csv":
            _show_csv(rows)
        case _:
            _show_rows(names, rows)


def _chosen(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--only {text!r}: write NAME=VALUE, e.g. team=research")
    return name.strip(), value


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: written(value) if key in _TIMES else value for key, value in row.items()}


def _show_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(map(_cell, {**row, "cost": shown_money(row["cost"])}.values()))


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def _show_rows(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        click.echo("Nothing was used in this time.", err=True)
        return
    labels = [name for name in dict.fromkeys(names) if name != "currency"]
    counts = [name for name in rows[0] if name not in (*labels, "currency", "cost")]
    shown = [n for n in counts if n not in _RARE or any(row[n] for row in rows)]
    table = [
        [*(_plain(row[name]) for name in labels), *(row[name] for name in shown), _cost([row])]
        for row in rows
    ]
    if len(rows) > 1:
        sums = [sum(row[name] for row in rows) for name in shown]
        table.append([*["total", *[""] * len(labels)][: len(labels)], *sums, _cost(rows)])
    show_table([*labels, *(name.replace("_", " ") for name in shown), "cost"], table)


def _cost(rows: Iterable[Mapping[str, Any]]) -> str:
    """Money by currency; what had no price is nothing."""
    sums: dict[str, int] = {}
    for row in rows:
        if row["currency"]:
            sums[row["currency"]] = sums.get(row["currency"], 0) + row["cost"]
    return ", ".join(f"{shown_money(cost)} {name}" for name, cost in sorted(sums.items())) or "-"


def _plain(text: str) -> str:
    """A name as a terminal may be shown it: a caller has chosen some of it."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text) or "-"
