"""``outgate keys``: make, list, show, rotate, revoke and import virtual keys."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from proxy.cli.keyfile import progress_bar, read_rows, secrets_file
from proxy.cli.moments import Duration, Moment, written
from proxy.cli.options import config_option
from proxy.cli.output import show_json, show_table
from proxy.cli.stores import Opened
from proxy.errors import ConfigError, nearest
from proxy.secret import Secret
from proxy.store.grant import Grant, Key

_F = TypeVar("_F", bound=Callable[..., Any])
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_quiet_option = click.option("--quiet", is_flag=True, help="Print the secret and nothing else.")


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke the virtual keys of callers.

    A key's secret (og-…) is shown once, when it is made; the store has only a digest of it.
    What changes here counts on every worker and machine within a second.

    \b
    Example:
      outgate keys create alice --team research --model 'gpt-4o*' --expires 90d
      outgate keys list
      outgate keys revoke alice
    """


def _several(name: str, text: str) -> Callable[[_F], _F]:
    return click.option(f"--{name}", f"{name}s", multiple=True, metavar=name.upper(), help=text)


@keys.command()
@config_option
@click.argument("name")
@click.option("--owner", help="Who answers for the key: a person, an address.")
@click.option("--team", help="The team it belongs to; its policy and its budgets count.")
@_several("group", "A group besides the team; several times for more.")
@_several("model", "A model the key is for, * and ? are wild; several times for more.")
@_several("endpoint", "An endpoint it is for, e.g. chat; several times for more.")
@_several("network", "Where it may be used from, e.g. 10.0.0.0/8; several times for more.")
@click.option("--upstream", help="The one upstream that its calls go to.")
@click.option("--label", "labels", multiple=True, metavar="NAME=TEXT", help="For records; several.")
@click.option("--expires", type=Moment(), help="When it ends: 90d, 2027-01-31.")
@_json_option
@_quiet_option
def create(path: str, as_json: bool, quiet: bool, labels: tuple[str, ...], **given: Any) -> None:
    """Make a key and print its secret, which is never shown again.

    \b
    Example:
      outgate keys create alice --owner alice@example.com --team research --expires 90d
      OPENAI_API_KEY=$(outgate keys create ci --quiet)
    """
    grant = Grant(**given, metadata=_labels(labels))
    with Opened(path) as opened:
        check_names(opened, grant)
        key, secret = opened.store.keys.create(grant)
    _tell(key, secret, as_json=as_json, quiet=quiet)


@keys.command("list")
@config_option
@_json_option
def show_all(path: str, as_json: bool) -> None:
    """List every key, the oldest first.

    \b
    Example:
      outgate keys list --json
    """
    now = time.time()
    with Opened(path) as opened:
        found = opened.store.keys.list()
    if as_json:
        show_json([_fields(key, now) for key in found])
        return
    heads = ("id", "name", "owner", "team", "state", "created (UTC)", "expires (UTC)")
    rows = [
        (key.id, key.name, key.owner or "-", key.team or "-", _state(key, now),
         written(key.created), written(key.expires))
        for key in found
    ]  # fmt: skip
    show_table(heads, rows)


@keys.command()
@config_option
@click.argument("key")
@_json_option
def show(path: str, key: str, as_json: bool) -> None:
    """Show what is known of a key, by its id or name; its secret is not.

    \b
    Example:
      outgate keys show alice
    """
    with Opened(path) as opened:
        found = opened.store.keys.get(key)
        until = opened.store.keys.overlap(found)
    fields = {**_fields(found, time.time()), "former_secret_until": until}
    if as_json:
        show_json(fields)
        return
    show_table(("field", "value"), [(name, _shown(name, fields[name])) for name in fields])


@keys.command()
@config_option
@click.argument("key")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the present secret is taken beside the new one; 0 ends it at once.",
)
@_json_option
@_quiet_option
def rotate(path: str, key: str, overlap: int, as_json: bool, quiet: bool) -> None:
    """Give a key a new secret and print it; the key, its limits and its budgets stay.

    \b
    Example:
      outgate keys rotate alice --overlap 24h
    """
    with Opened(path) as opened:
        found, secret = opened.store.keys.rotate(key, overlap)
    until = int(time.time()) + overlap if overlap else None
    _tell(found, secret, as_json=as_json, quiet=quiet, former_secret_until=until)


@keys.command()
@config_option
@click.argument("names", nargs=-1, required=True, metavar="KEY...")
@_json_option
def revoke(path: str, names: tuple[str, ...], as_json: bool) -> None:
    """End keys for good, by id or name: within a second no worker takes them any more.

    \b
    Example:
      outgate keys revoke alice key_0123456789abcdef
    """
    with Opened(path) as opened:
        for name in names:
            opened.store.keys.get(name)  # a misspelt one is told before any is revoked
        revoked = [opened.store.keys.revoke(name) for name in names]
    if as_json:
        show_json([_fields(key, time.time()) for key in revoked])
        return
    for key in revoked:
        click.echo(f"{key.name} ({key.id}) is revoked since {written(key.revoked)} UTC")


@keys.command("import")
@config_option
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@click.option(
    "--output", required=True, type=click.Path(dir_okay=False), help="A new file for the secrets."
)
def load(path: str, file: Any, output: str) -> None:
    """Make a key for each line of a CSV file, all of them or none.

    The first line names the columns: name, and any of owner, team, groups, models, endpoints, networks, upstream,
    expires, label.NAME. Lists are separated by blanks. The secrets go to a new CSV file that only you can read.

    \b
    Example:
      outgate keys import people.csv --output secrets.csv
    """
    with Opened(path) as opened:
        grants = read_rows(file, lambda grant: check_names(opened, grant), opened.store.keys.taken)
        with (
            secrets_file(output) as write,
            progress_bar(length=len(grants), label="Making keys") as bar,
        ):
            opened.store.keys.create_all(grants, lambda made: (write(made), bar.update(len(made))))
    click.echo(f"{len(grants)} keys are made, their secrets are in {output}")


def check_names(opened: Opened, grant: Grant) -> None:
    """Raises ``ConfigError`` for a team or an upstream that the configuration does not have."""
    for table, name in (("teams", grant.team), ("upstreams", grant.upstream)):
        known = opened.names(table)
        # Without [teams] a team is only a label.
        if name is not None and name not in known and (known or table == "upstreams"):
            raise ConfigError(
                f"{table[:-1]}: {name!r} is not in the configuration.{nearest(name, known)}"
                f" There are: {', '.join(sorted(known)) or 'none'}"
            )


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for label in given:
        name, separator, text = label.partition("=")
        if not separator:
            raise click.BadParameter(f"--label {label!r}: write NAME=TEXT")
        labels[name] = text
    return labels


def _tell(key: Key, secret: Secret, *, as_json: bool, quiet: bool, **more: Any) -> None:
    if as_json:
        show_json({**_fields(key, time.time()), **more, "secret": secret.reveal()})
    elif quiet:
        click.echo(secret.reveal())
    else:
        click.echo(f"{key.name} ({key.id}). Its secret, shown only now:\n\n  {secret.reveal()}\n")
        for name, value in more.items():
            click.echo(f"{name.replace('_', ' ')}: {written(value)} UTC" if value else "")


def _fields(key: Key, now: float) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(key)
    return {"id": fields.pop("id"), **fields, "state": _state(key, now)}


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return "revoked"
    return "live" if key.live(now) else "expired"


def _shown(name: str, value: Any) -> str:
    if name in ("created", "expires", "revoked", "former_secret_until"):
        return written(value)
    if isinstance(value, Mapping):
        return " ".join(f"{label}={text}" for label, text in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(value) or "all" if name != "groups" else " ".join(value) or "-"
    return "-" if value is None else str(value)
