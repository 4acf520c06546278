"""``outgate audit verify``: whether the trail is as it was written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit import keys
from proxy.audit.records import segments
from proxy.audit.verify import Report
from proxy.audit.verify import verify as check
from proxy.cli.audit.place import (
    Place,
    json_option,
    place_options,
    private_options,
)
from proxy.cli.audit.printing import as_json as to_json
from proxy.cli.audit.printing import plain, print_table, progress_bar

_MOST_SHOWN: Final = 20


@click.command()
@place_options
@private_options
@click.option(
    "--public-key",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The key that checks signatures; by default that of the configuration's sign_with.",
)
@click.option(
    "--checkpoints",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Checkpoints that were exported, also in a syslog server's file; several files count together.",
)
@json_option
def verify(
    place: Place,
    private: Sequence[X25519PrivateKey],
    public_key: str | None,
    checkpoints: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check every record, and name the first that is not as it was written; exit status 0 or 1.

    May run while the gateway writes, and on a copy elsewhere. With the auditor's key every mac is checked, with the
    public key every checkpoint, with exported ones that the checkpoints themselves are those that were made.

    \b
    Example:
      outgate audit verify --directory audit --private-key audit-sealing.private.pem \\
        --public-key audit-signing.public.pem --checkpoints checkpoints.exported
    """
    signing = _signing(public_key, place)
    exported = [*map(Path, checkpoints), *(() if checkpoints else place.exported)]
    with progress_bar(_size(place.directory), "Reading") as bar:
        report = check(
            place.directory,
            private=private,
            signing=signing,
            exported=exported,
            progress=bar.update,
        )
    notes = list(_notes(report, signed=signing is not None))
    if as_json:
        ok = report.first is None and report.segments > 0
        fields = {**msgspec.to_builtins(report), "ok": ok, "notes": notes}
        click.echo(to_json(fields, indent=2))
    else:
        _tell(report, notes)
    if report.first is not None or not report.segments:
        raise SystemExit(1)


def _signing(public_key: str | None, place: Place) -> Ed25519PublicKey | None:
    if public_key is not None:
        return keys.signing_public(public_key, "--public-key")
    if place.sign_with is not None:
        return keys.signing_private(place.sign_with).public_key()
    return None


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in segments(directory))


def _tell(report: Report, notes: list[str]) -> None:
    problems = report.problems
    if problems:
        click.echo(f"first bad record: {plain(problems[0])}")
        for problem in problems[1:_MOST_SHOWN]:
            click.echo(f"also: {plain(problem)}")
        if len(problems) > _MOST_SHOWN:
            click.echo(f"and {len(problems) - _MOST_SHOWN} more; all of them with --json")
        click.echo("")
    print_table(_counts(report))
    for note in notes:
        click.echo(f"note: {note}")
    if report.segments:
        click.echo("NOT as it was written" if problems else "ok: as it was written")


def _counts(report: Report) -> Iterator[tuple[str, Any]]:
    for name in ("segments", "records", "intents", "outcomes", "recovered", "checkpoints"):
        yield name, getattr(report, name)


def _notes(report: Report, *, signed: bool) -> Iterator[str]:
    """What the answer does not cover."""
    if not report.segments:
        yield "there is no record here: name the directory of an audit trail"
        return
    if report.unanswered:
        yield f"calls without an outcome, in flight or not recovered yet: {report.unanswered}"
    if report.cut:
        yield f"segments that end in a write that was cut, as by a kill: {report.cut}; nobody was told it was there"
    if report.unchecked:
        yield f"segments whose macs were not checked: {report.unchecked}; give the auditor's --private-key"
    if report.unsealed:
        yield (
            f"segments that are sealed to nobody: {report.unsealed}; who could write here could make their macs anew,"
            " set audit.seal_to"
        )
    if not report.checkpoints:
        yield "there are no checkpoints yet"
    elif not signed:
        yield "the signatures of checkpoints were not checked: give --public-key"
