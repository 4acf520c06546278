"""``outgate prices``: which entry of the price table prices which model."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, Final

import click

from proxy.cli.options import config_option
from proxy.cli.output import show_table
from proxy.config import read
from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.prices import PriceEntry, Prices

_WILD: Final = frozenset("*?")


@click.group()
def prices() -> None:
    """Look at the price table, [[prices]].

    \b
    Example:
      outgate prices check gpt-4o-mini
    """


@prices.command("check")
@config_option
@click.argument("models", nargs=-1)
def check_prices(path: str, models: tuple[str, ...]) -> None:
    """Say what each entry is worth today, and which one prices each MODEL; exit status 1 where none does.

    Without a MODEL those are asked for that the routes and teams name in full.

    \b
    Example:
      outgate prices check
      outgate prices check gpt-4o-mini mistral-large
    """
    document = read(path)
    raw = document.get("prices", [])
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise ConfigError(f"{path}: prices: write each entry below [[prices]], with two brackets")
    where = f"{path}: prices"
    entries = [
        convert(item, PriceEntry, where=f"{where}[{number}]") for number, item in enumerate(raw)
    ]
    found = Prices(entries, where=where)
    today = datetime.now(UTC).date()
    _show_entries(found, today)
    wanted = models or tuple(_named(document))
    if wanted:
        click.echo()
        _show_models(found, wanted, today)
    for note in _notes(found, today):
        click.echo(f"note: {note}", err=True)
    missing = [model for model in wanted if found.price(model, today) is None]
    if missing:
        _refuse(found, missing)


def _show_entries(found: Prices, today: date) -> None:
    rows = [
        (
            f"prices[{number}]",
            " ".join(entry.models),
            entry.input,
            "-" if entry.cached is None else entry.cached,
            entry.output,
            entry.currency,
            entry.since or "-",
            found.state(number, today),
        )
        for number, entry in enumerate(found.entries)
    ]
    heads = ("entry", "models", "input", "cached", "output", "currency", "since", "today")
    show_table(heads, rows or [("none", *[""] * 7)])


def _show_models(found: Prices, models: tuple[str, ...], today: date) -> None:
    rows = []
    for model in models:
        price = found.price(model, today)
        others = [n for n in found.fitting(model) if price is None or n != price.number]
        rows.append(
            (
                model,
                f"prices[{price.number}]" if price else "MISSING",
                ", ".join(f"prices[{n}] ({_why(found, n, today)})" for n in others) or "-",
            )
        )
    show_table(("model", "priced by", "fits too"), rows)


def _why(found: Prices, number: int, today: date) -> str:
    return "not yet" if found.state(number, today) == "future" else "gives way"


def _notes(found: Prices, today: date) -> Iterator[str]:
    for first, second in found.overlaps():
        yield f"prices[{first}] and prices[{second}] have one date and fit one model equally well: the first counts"
    for number, entry in enumerate(found.entries):
        match found.state(number, today):
            case "stale":
                yield f"prices[{number}] is of {entry.since}, over 90 days ago: look whether it still holds"
            case "future":
                yield f"prices[{number}] counts from {entry.since} on"
            case _:
                pass


def _named(document: dict[str, Any]) -> Iterator[str]:
    """Models that the configuration names in full."""
    routes, teams = document.get("routes", []), document.get("teams", {})
    tables = [*map(_as_sent, routes), *(teams.values() if isinstance(teams, dict) else ())]
    names = (
        name for table in tables if isinstance(table, dict) for name in table.get("models", ())
    )
    yield from dict.fromkeys(n for n in names if isinstance(n, str) and not _WILD & set(n))


def _as_sent(route: Any) -> Any:
    """A route with the names that its upstreams know the models by, where they have others."""
    entries = route.get("upstreams", ()) if isinstance(route, dict) else ()
    sent = [entry.get("model", "*") if isinstance(entry, dict) else "*" for entry in entries]
    if all(name == "*" for name in sent):
        return route
    return {"models": [*sent, *(route.get("models", ()) if "*" in sent else ())]}


def _refuse(found: Prices, missing: list[str]) -> None:
    known = [glob for entry in found.entries for glob in entry.models]
    raise ConfigError(
        f"no price for {', '.join(map(repr, missing))}.{nearest(missing[0], known)}"
        " Add [[prices]] with models, input and output"
    )
