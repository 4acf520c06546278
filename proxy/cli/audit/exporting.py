"""``outgate audit export``: calls for other programs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from proxy.audit.calls import Query
from proxy.audit.reading import search
from proxy.audit.records import segments
from proxy.cli.audit.asking import query_options
from proxy.cli.audit.formats import FORMATS
from proxy.cli.audit.place import Place, place_options
from proxy.cli.audit.printing import progress_bar
from proxy.errors import ConfigError


@click.command()
@place_options
@query_options()
@click.option(
    "--format", "kind", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option(
    "--output",
    default="-",
    show_default="standard output",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="A new file; it has this name only when it is whole.",
)
def export(place: Place, query: Query, kind: str, output: str) -> None:
    """Write the calls that fit all of the options to a file: JSON lines (all fields), CSV or Parquet (columns).

    Parquet needs pip install 'outgate[parquet]'.

    \b
    Example:
      outgate audit export --since 2026-08-01 --until 2026-09-01 --format parquet --output august.parquet
    """
    size = sum(found.stat().st_size for found in segments(place.directory))
    count = 0
    with (
        _target(output) as file,
        FORMATS[kind](file) as writer,
        progress_bar(size, "Exporting") as bar,
    ):
        for call in search(place.directory, query, bar.update):
            writer.put(call)
            count += 1
        bar.finish()
        bar.render_progress()
    click.echo(f"{count} calls are written", err=True)


@contextmanager
def _target(output: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears under its name only when it is whole and readable by its owner alone."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target, part = Path(output), Path(f"{output}.part")
    if target.exists():
        raise ConfigError(f"{output} is there already: name another --output")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{part}: {error.strerror}. Choose another --output.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
