"""The files of ``outgate keys import``: people in, secrets out."""

import csv
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click

from proxy.cli.moments import moment
from proxy.errors import ConfigError, nearest
from proxy.secret import Secret
from proxy.store.grant import Grant, Key

_TEXTS: Final = ("name", "owner", "team", "upstream")
_LISTS: Final = ("groups", "models", "endpoints", "networks")
_LABEL: Final = "label."
_COLUMNS: Final = (*_TEXTS, *_LISTS, "expires")
_MOST_SHOWN: Final = 20

Write = Callable[[Iterable[tuple[Key, Secret]]], None]


def read_rows(
    file: TextIO, check: Callable[[Grant], None], taken: Callable[[Iterable[str]], frozenset[str]]
) -> list[Grant]:
    """The keys a CSV file asks for; every line that will not do is told, and then none is taken.

    ``check`` raises ``ConfigError`` for a grant, ``taken`` says which names there are already.
    """
    found, wrong = _read(file, check)
    there = taken(grant.name for grant in found.values())
    seen: dict[str, int] = {}
    for line, grant in found.items():
        if grant.name in there:
            wrong[line] = f"the name {grant.name!r} is taken"
        elif grant.name in seen:
            wrong[line] = f"the name {grant.name!r} is that of line {seen[grant.name]}"
        seen.setdefault(grant.name, line)
    if wrong:
        raise ConfigError(_report(wrong))
    if not found:
        raise ConfigError("there is no line below the names of the columns")
    return list(found.values())


def progress_bar(*work: Any, **settings: Any) -> Any:
    """A bar beside what the command prints, not in it."""
    return click.progressbar(*work, file=sys.stderr, **settings)


@contextmanager
def secrets_file(path: str) -> Iterator[Write]:
    """A new file for secrets that its owner alone can read; removed again when anything fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Choose another --output.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)

        def write(made: Iterable[tuple[Key, Secret]]) -> None:
            # On disk before the keys are in the database: no key without its secret.
            writer.writerows((key.name, key.id, secret.reveal()) for key, secret in made)
            file.flush()
            os.fsync(file.fileno())

        try:
            writer.writerow(("name", "id", "secret"))
            yield write
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise


def _read(file: TextIO, check: Callable[[Grant], None]) -> tuple[dict[int, Grant], dict[int, str]]:
    found: dict[int, Grant] = {}
    wrong: dict[int, str] = {}
    reader = csv.DictReader(file, strict=True)
    try:
        _check_columns(reader.fieldnames or ())
        rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"line {reader.line_num}: not CSV in UTF-8: {error}") from None
    with progress_bar(rows, label="Checking") as bar:
        for line, row in bar:
            try:
                found[line] = _grant(row)
                check(found[line])
            except ConfigError as error:
                found.pop(line, None)
                wrong[line] = str(error)
    return found, wrong


def _check_columns(names: Iterable[str]) -> None:
    given = list(names)
    for name in given:
        if name not in _COLUMNS and not name.startswith(_LABEL):
            raise ConfigError(
                f"line 1: no column {name!r}.{nearest(name, _COLUMNS)}"
                f" Columns: {', '.join(_COLUMNS)}, {_LABEL}NAME"
            )
    if "name" not in given or len(set(given)) < len(given):
        raise ConfigError("line 1 must name each column once, and one of them is name")


def _grant(row: Mapping[Any, Any]) -> Grant:
    if None in row or None in row.values():
        raise ConfigError("more or fewer cells than columns")
    expires = row.get("expires", "").strip()
    when = moment(expires) if expires else None
    if expires and when is None:
        raise ConfigError(f"expires = {expires!r}: write 90d, 2027-01-31 or 2027-01-31T12:00:00Z")
    fields: dict[str, Any] = {name: row[name].strip() or None for name in _TEXTS if name in row}
    fields |= {name: tuple(row[name].split()) for name in _LISTS if name in row}
    labels = {
        name.removeprefix(_LABEL): text.strip()
        for name, text in row.items()
        if name.startswith(_LABEL) and text.strip()
    }
    grant = Grant(**{**fields, "name": fields["name"] or ""}, metadata=labels, expires=when)
    grant.check(time.time())
    return grant


def _report(wrong: Mapping[int, str]) -> str:
    lines = [f"line {line}: {what}" for line, what in sorted(wrong.items())]
    more = len(lines) - _MOST_SHOWN
    shown = "\n  ".join(lines[:_MOST_SHOWN]) + (f"\n  … and {more} more" if more > 0 else "")
    return f"no key was made, {len(lines)} lines will not do:\n  {shown}"
