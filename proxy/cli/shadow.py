"""``outgate shadow``: where today's policy and tomorrow's disagree."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from proxy.cli.audit.place import json_option
from proxy.cli.audit.printing import as_json as to_json
from proxy.cli.audit.printing import print_table
from proxy.cli.options import config_option
from proxy.cli.replay import told
from proxy.cli.telling import Telling, since_option
from proxy.config import read
from proxy.convert import convert
from proxy.errors import ConfigError
from proxy.rehearsal.report import Disagreement, read_report
from proxy.rehearsal.table import ShadowTable

_HEAD: Final = ("time (UTC)", "id", "principal", "model", "differs", "live", "shadow")


@click.group()
def shadow() -> None:
    """The second policy that [shadow] judges on live traffic, without effect.

    \b
    Example:
      outgate shadow report --since 24h
    """


@shadow.command(cls=Telling)
@config_option
@click.option(
    "--report",
    "file",
    type=click.Path(dir_okay=False),
    help="The list, if not that of the configuration.",
)
@since_option
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many calls, the last ones.",
)
@json_option
def report(path: str, file: str | None, since: datetime | None, lines: int, as_json: bool) -> None:
    """Count and list the calls about which the shadow disagreed; exit status 1 if there are any.

    There is no content in the list: it says who decided what about which call.

    \b
    Example:
      outgate shadow report --since 24h
      outgate shadow report --json | jq .calls
    """
    found = list(read_report(file or _configured(path), since))
    sound = [item for item in found if item is not None]
    shown = sound[-lines:] if lines else []
    if as_json:
        fields = {
            "disagreements": len(sound),
            "unreadable": len(found) - len(sound),
            "kinds": [{"live": a, "shadow": b, "calls": n} for (a, b), n in _kinds(sound)],
            "calls": msgspec.to_builtins(shown),
        }
        click.echo(to_json(fields, indent=2))
    else:
        _tell(sound, shown, len(found) - len(sound))
    raise SystemExit(1 if sound else 0)


def _tell(sound: Sequence[Disagreement], shown: Sequence[Disagreement], unreadable: int) -> None:
    if sound:
        rows = ((count, live, other) for (live, other), count in _kinds(sound))
        print_table([("calls", "live", "shadow"), *rows])
        click.echo("")
    if shown:
        print_table([_HEAD, *map(_row, shown)])
        click.echo("")
    click.echo(f"{len(sound)} disagreements")
    if unreadable:
        click.echo(f"{unreadable} lines cannot be read")


def _kinds(found: Iterable[Disagreement]) -> list[tuple[tuple[str, str], int]]:
    """How often the two differ in the same way, the most frequent first."""
    pairs = ((told(item.live, item.differs), told(item.shadow, item.differs)) for item in found)
    return Counter(pairs).most_common()


def _row(item: Disagreement) -> Sequence[Any]:
    when = item.time[:19].replace("T", " ")
    live, other = told(item.live, item.differs), told(item.shadow, item.differs)
    return when, item.id, item.principal, item.model, ", ".join(item.differs), live, other


def _configured(path: str) -> str:
    """Of the configuration only [shadow] is read, so that no secret needs to be there."""
    table = read(path).get("shadow")
    if not isinstance(table, dict):
        raise ConfigError(
            f'{path}: there is no [shadow]. Add it with config = "next.toml", or give --report.'
        )
    return convert(table, ShadowTable, where=f"{path}: shadow").report
