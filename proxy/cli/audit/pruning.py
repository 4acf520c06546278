"""``outgate audit prune``: remove what is older than it has to be."""

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from proxy.audit import keys
from proxy.audit.records import segments
from proxy.audit.retention import Due, Retention
from proxy.cli.audit.asking import past
from proxy.cli.audit.place import Place, place_options
from proxy.cli.audit.printing import plain, print_table, progress_bar
from proxy.errors import ConfigError

_STAYS: Final = {
    "open": (
        "not closed: no checkpoint says that nothing more comes; a gateway that is started here sees to that"
    ),
    "unproven": (
        "its checkpoint was signed with none of the keys: name a former one with --public-key, or add --unsigned"
    ),
    "changed": "not as it was written: run outgate audit verify",
}


@click.command()
@place_options
@click.option(
    "--older-than",
    callback=past,
    metavar="TIME",
    help="Segments that were closed before: 90d (ago), 2026-08-01; by default audit.retention_days.",
)
@click.option(
    "--sign-with",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The private key that signs checkpoints; by default the configuration's.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="A former signing key whose checkpoints count, too.",
)
@click.option("--unsigned", is_flag=True, help="Let checkpoints count that nobody signed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(
    *,
    place: Place,
    older_than: datetime | None,
    sign_with: str | None,
    public_keys: tuple[str, ...],
    unsigned: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove old segments, whole ones that are closed, and note it in the checkpoints so that verify passes.

    May run while the gateway writes. What was changed is kept, since it is evidence.

    \b
    Example:
      outgate audit prune --older-than 400d --yes
    """
    before = older_than or _retention(place)
    signer = sign_with or place.sign_with
    retention = Retention(
        place.directory,
        keys.signing_private(signer) if signer is not None else None,
        [keys.signing_public(key, "--public-key") for key in public_keys],
        unsigned=unsigned,
    )
    size = sum(found.stat().st_size for found in segments(place.directory))
    with progress_bar(size, "Reading") as bar:
        due = retention.due(before, bar.update)
    _tell(due)
    if not due.segments or dry_run:
        return
    if not yes:
        click.confirm(f"Remove {len(due.segments)} segments for good?", abort=True)
    with progress_bar(len(due.segments), "Removing") as bar:
        retention.remove(due, bar.update)
    click.echo(f"{len(due.segments)} segments are removed")


def _retention(place: Place) -> datetime:
    if place.retention_days is None:
        raise ConfigError(
            "how old must it be? Write --older-than 400d, or retention_days = 400 in [audit]"
        )
    return datetime.now(UTC) - timedelta(days=place.retention_days)


def _tell(due: Due) -> None:
    if due.segments:
        print_table(
            [
                ("segment", "records", "bytes"),
                *((found.segment, found.seq + 1, found.bytes) for found in due.segments),
            ]
        )
    else:
        click.echo("no closed segment is that old")
    for reason, text in _STAYS.items():
        for name in getattr(due, reason):
            click.echo(f"kept: {plain(name)}: {text}")
