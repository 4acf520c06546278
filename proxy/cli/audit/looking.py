"""``outgate audit tail``, ``search`` and ``show``: what the trail says of calls."""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any, Final

import click

from proxy.audit.calls import CONTENT, Call, Query
from proxy.audit.reading import Tail, find, latest
from proxy.audit.reading import search as search_calls
from proxy.cli.audit.asking import query_options
from proxy.cli.audit.lines import Lines
from proxy.cli.audit.place import Place, json_option, place_options
from proxy.cli.audit.printing import as_json as to_json
from proxy.cli.audit.printing import flat, plain, print_table
from proxy.errors import ConfigError

_BEAT: Final = 0.5
#: How old a segment may be that ``tail -f`` looks into for its first lines.
_BACK: Final = timedelta(days=2)
_NESTED: Final = ("verdicts", "findings", "failures", CONTENT)


@click.command()
@place_options
@query_options("since", "until", "text")
@click.option("-f", "--follow", is_flag=True, help="Go on with every call that ends, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=10, show_default=True)
@json_option
def tail(place: Place, query: Query, follow: bool, lines: int, as_json: bool) -> None:
    """Print the last calls, and with -f each one that ends.

    \b
    Example:
      outgate audit tail -f --team research
    """
    output = Lines(json=as_json)
    if not follow:
        for call in latest(place.directory, lines, query) if lines else ():
            output.show(call)
        return
    following = Tail(place.directory, query, datetime.now(UTC) - _BACK)
    for call in deque(following.read(), maxlen=lines):
        output.show(call)
    while True:
        sleep(_BEAT)
        for call in following.read():
            output.show(call)


@click.command()
@place_options
@query_options()
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N of them.")
@json_option
def search(place: Place, query: Query, last: int | None, as_json: bool) -> None:
    """List the calls that fit all of the options, in the order in which they ended; * and ? are wild in names.

    \b
    Example:
      outgate audit search --since 24h --team research --finding 'pii*'
      outgate audit search --since 2026-08-01 --until 2026-09-01 --verdict deny --json
    """
    output = Lines(json=as_json)
    found: Iterable[Call] = (
        search_calls(place.directory, query)
        if last is None
        else latest(place.directory, last, query)
    )
    for call in found:
        output.show(call)
    if not output.count:
        click.echo("no call fits", err=True)


@click.command()
@place_options
@click.argument("id_", metavar="ID")
@json_option
def show(place: Place, id_: str, as_json: bool) -> None:
    """Print all that is recorded of a call: its id is the x-outgate-id of the reply.

    What stands there is not checked; that is what verify does.

    \b
    Example:
      outgate audit show req_0123456789abcdef0123456789abcdef
    """
    call = found_call(place, id_)
    if as_json:
        click.echo(to_json(flat(call), indent=2))
        return
    print_table(_rows(call))
    for name in _NESTED[:-1]:
        _print_list(name, call.items(name))
    content = call.fields.get(CONTENT)
    if isinstance(content, dict) and content:
        sides = " and ".join(map(str, content))
        click.echo(f"\ncontent\n{plain(sides)}, encrypted; see: outgate audit decrypt")


def found_call(place: Place, id_: str) -> Call:
    """The call of this id; ends the command if there is none."""
    call = find(place.directory, id_)
    if call is None:
        raise ConfigError(
            f"no record of {id_} in {place.directory}. Look for it with: outgate audit search --since 24h"
        )
    return call


def _rows(call: Call) -> Iterable[tuple[str, Any]]:
    for name, place in (("intent", call.intent), ("outcome", call.ended)):
        if place is not None:
            yield f"{name} record", f"{place.segment} number {place.seq}, {place.time}"
        else:
            yield f"{name} record", "none"
    for name, value in flat(call).items():
        if name not in _NESTED and name != "records":
            yield name, to_json(value) if isinstance(value, dict | list) else value


def _print_list(name: str, items: list[dict[str, Any]]) -> None:
    if items:
        heads = list(dict.fromkeys(str(head) for item in items for head in item))
        click.echo(f"\n{name}")
        print_table([heads, *([item.get(head) for head in heads] for item in items)])
