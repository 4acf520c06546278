"""``outgate replay``: which calls of the past a new policy would judge otherwise."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit.records import segments
from proxy.cli.audit.place import json_option, private_options
from proxy.cli.audit.printing import as_json as to_json
from proxy.cli.audit.printing import plain, print_table, progress_bar
from proxy.cli.telling import Telling, since_option
from proxy.errors import ConfigError
from proxy.rehearsal.decision import ASPECTS, Decision
from proxy.rehearsal.judging import Judge
from proxy.rehearsal.loading import rehearsed
from proxy.rehearsal.replaying import Change, Replay
from proxy.rehearsal.samples import Sample, Skipped, of_lines, of_trail

_HEAD: Final = ("id", "endpoint", "principal", "model", "differs", "before", "after")


@click.command(cls=Telling)
@click.option(
    "--config", "path", required=True, type=click.Path(dir_okay=False), help="The policy to try."
)
@click.option(
    "--against",
    type=click.Path(dir_okay=False),
    help="The policy to compare with; without it, what was decided when the calls were live.",
)
@private_options
@since_option
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Judge no more than N calls.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(ASPECTS),
    help="What counts as a change; all of it by default.",
)
@json_option
@click.argument("trail", type=click.Path(exists=True, path_type=Path))
def replay(
    *,
    path: str,
    against: str | None,
    private: Sequence[X25519PrivateKey],
    since: datetime | None,
    limit: int | None,
    only: tuple[str, ...],
    as_json: bool,
    trail: Path,
) -> None:
    """Judge recorded calls by another policy, and print those whose verdict changes.

    TRAIL is the directory of an audit trail with [audit.content], or a file with one JSON object a line: endpoint,
    body, principal, groups, headers. Nothing is sent, and no secret of the configuration is needed. Exit status 0 if
    nothing changes, 1 if something does, 2 if it could not be told.

    \b
    Example:
      outgate replay --config next.toml --private-key audit-sealing.private.pem --since 7d audit
      outgate replay --config next.toml --against outgate.toml --only verdict samples.jsonl
    """
    current = Judge(rehearsed(against)) if against else None
    run = Replay(Judge(rehearsed(path)), current, only or ASPECTS)
    with progress_bar(_size(trail), "Judging") as bar:
        found = (
            of_trail(trail, private, since, bar.update)
            if trail.is_dir()
            else of_lines(trail, since, bar.update)
        )
        changes = list(run.changes(_first(found, limit)))
    _tell(run, changes, as_json=as_json)
    if not run.judged:
        raise ConfigError(f"{trail}: no call could be judged")
    raise SystemExit(1 if changes else 0)


def _first(found: Iterator[Sample | Skipped], limit: int | None) -> Iterator[Sample | Skipped]:
    """Those up to the ``limit`` th that can be judged."""
    left = limit
    for sample in found:
        if isinstance(sample, Sample) and left is not None:
            if not left:
                return
            left -= 1
        yield sample


def _size(trail: Path) -> int:
    paths = segments(trail) if trail.is_dir() else [trail]
    return sum(path.stat().st_size for path in paths)


def _tell(run: Replay, changes: list[Change], *, as_json: bool) -> None:
    if as_json:
        fields = {
            "judged": run.judged,
            "changed": len(changes),
            "skipped": dict(run.skipped),
            "left_out": sorted(run.left_out),
            "calls": msgspec.to_builtins(changes),
        }
        click.echo(to_json(fields, indent=2))
        return
    if changes:
        print_table([_HEAD, *map(_row, changes)])
        click.echo("")
    click.echo(f"{run.judged} calls judged, {len(changes)} change")
    for why, count in run.skipped.most_common():
        click.echo(f"{count} not judged: {plain(why)}")
    for name in sorted(run.left_out):
        click.echo(f"left out: {plain(name)}, what it decides stands in the store")


def _row(change: Change) -> Sequence[Any]:
    before, after = told(change.before, change.differs), told(change.after, change.differs)
    differs = ", ".join(change.differs)
    return change.id, change.endpoint, change.principal, change.model, differs, before, after


def told(decision: Decision, differs: Sequence[str]) -> str:
    """A decision in a cell of a table, as far as it matters to what differs."""
    if decision.verdict == "denied":
        return f"denied by {decision.by or 'the gateway'} ({decision.code})"
    parts = ["allowed"]
    if "reply" in differs:
        withheld = f"withheld by {decision.reply_by or 'the gateway'} ({decision.reply_code})"
        parts.append(f"reply {withheld if decision.reply == 'denied' else 'shown'}")
    found = decision.findings or {}
    if "findings" in differs or ("body" in differs and found):
        parts.append(
            ", ".join(_times(name, count) for name, count in sorted(found.items()))
            or "nothing found"
        )
    return "; ".join(parts)


def _times(name: str, count: int) -> str:
    return name if count == 1 else f"{name} x{count}"
