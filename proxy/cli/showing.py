"""How commands show what is loaded: sections in columns, scopes in words, options without secrets."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
from msgspec import Struct

from proxy.convert import is_secretive, secret_source

#: A name and a password in an address.
_LOGIN: Final = re.compile(r"//[^/@\s]+@")


def scope(when: Struct, only: Iterable[str]) -> str:
    """Which calls an entry concerns, in words; ``only`` is what its hook says of endpoints."""
    parts = [
        f"{name} {'|'.join(globs)}"
        for name in when.__struct_fields__
        if (globs := getattr(when, name))
    ]
    return " and ".join([*parts, *([f"only {'|'.join(only)}"] if only else [])]) or "always"


def veiled(key: str, value: Any) -> Any:
    """An option for people to read: a plugin may take a secret as plain text, we do not print it."""
    if _is_secret(value):
        return secret_source(value)
    if isinstance(value, dict):
        return {name: veiled(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [veiled(key, item) for item in value]
    if not isinstance(value, str):
        return value
    return "(not shown)" if is_secretive(key) else _LOGIN.sub("//(not shown)@", value)


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and set(value) <= {"env", "file"}


def section(title: str, rows: Iterable[Sequence[str]]) -> None:
    """Print a heading and rows in columns below it; the first row names the columns."""
    table = [[*map(str, row)] for row in rows]
    click.secho(title, bold=True)
    if len(table) == 1:
        click.echo("  none\n")
        return
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        click.echo(
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    click.echo()
