"""``outgate db``: where the store's database stands, and bringing it up to date."""

import click

from proxy.cli.options import config_option
from proxy.cli.output import show_json, show_table
from proxy.cli.stores import Opened


@click.group("db")
def database() -> None:
    """See and upgrade the database of the store.

    A server upgrades its database by itself when it starts; one process does it, the others wait.

    \b
    Example:
      outgate db status
    """


@database.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(path: str, as_json: bool) -> None:
    """Print where the database stands, and change nothing.

    \b
    Example:
      outgate db status --config outgate.toml
    """
    with Opened(path) as opened:
        name, state = opened.store.database.name, opened.store.database.state()
    if as_json:
        show_json({"database": name, "schema": state.current, "known": state.known})
        return
    verdict = "up to date"
    if state.current > state.known:
        verdict = "upgraded by a newer Outgate: install that version again, or restore a backup"
    elif state.missing:
        verdict = "run outgate db upgrade, or start the server"
    heads = ("database", "schema", "known here", "")
    show_table(heads, [(name, state.current, state.known, verdict)])


@database.command()
@config_option
def upgrade(path: str) -> None:
    """Bring the tables up to date; make them, if there are none. Back the database up before.

    \b
    Example:
      outgate db upgrade --config outgate.toml
    """
    with Opened(path) as opened:
        applied = opened.store.database.upgrade()
        state = opened.store.database.state()
        click.echo(f"{opened.store.database.name}: schema {state.current}, up to date")
    for step in applied:
        click.echo(f"applied {step.number}: {step.title}")
