"""Which trail a command is about: the one of the configuration, or a directory that is named."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from proxy.audit import AuditTable, keys
from proxy.cli.options import config_option
from proxy.config import read
from proxy.convert import convert
from proxy.errors import ConfigError, nearest
from proxy.secret import Secret

_directory_option: Final = click.option(
    "--directory",
    type=click.Path(file_okay=False),
    help="The trail's directory, also a copy of it; no configuration is read then.",
)
_private_option: Final = click.option(
    "--private-key",
    "private_keys",
    multiple=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The auditor's key; several after a change of keys.",
)
_password_option: Final = click.option(
    "--ask-password", is_flag=True, help="Ask for the password of the private key."
)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Place(Struct, frozen=True, kw_only=True):
    """A trail, and what the configuration says of it, if there is one."""

    directory: Path
    sign_with: str | None = None
    retention_days: int | None = None
    exported: tuple[Path, ...] = ()


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--config`` and ``--directory``, as the argument ``place``."""

    @wraps(function)
    def asked(path: str, directory: str | None, **given: Any) -> Any:
        return function(place=located(path, directory), **given)

    wrapped: Callable[..., Any] = asked
    return config_option(_directory_option(wrapped))


def private_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--private-key`` and ``--ask-password``, as the argument ``private``: the auditor's keys."""

    @wraps(function)
    def asked(private_keys: tuple[str, ...], ask_password: bool, **given: Any) -> Any:
        private = [
            keys.sealing_private(path, _password(path, ask=ask_password), "--private-key")
            for path in private_keys
        ]
        return function(private=private, **given)

    wrapped: Callable[..., Any] = asked
    return _private_option(_password_option(wrapped))


def located(path: str, directory: str | None) -> Place:
    """The trail that a command is about; raises ``ConfigError``.

    Of the configuration only ``[audit]`` is read, so that no credential of an upstream needs to be there.
    """
    place = Place(directory=Path(directory)) if directory is not None else _configured(path)
    if not place.directory.is_dir():
        raise ConfigError(
            f"{place.directory}: there is no such directory. Name the audit trail's with --directory or --config."
        )
    return place


def _configured(path: str) -> Place:
    document = read(path)
    found = document.get("audit")
    if not isinstance(found, dict):
        raise ConfigError(
            f'{path}: there is no [audit].{nearest("audit", document)} Add it with directory = "…", or name the'
            " audit trail's directory with --directory."
        )
    # What only the gateway needs is left out: the token of an export may be in its environment alone.
    needed = {name: value for name, value in found.items() if name != "export"}
    table = convert(needed, AuditTable, where=f"{path}: audit")
    return Place(
        directory=Path(table.directory),
        sign_with=table.sign_with,
        retention_days=table.retention_days,
        exported=tuple(_files(found.get("export", ()))),
    )


def _files(export: Iterable[Any]) -> Iterable[Path]:
    for entry in export if isinstance(export, list) else ():
        name = entry.get("file") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and Path(name).is_file():
            yield Path(name)


def _password(path: str, *, ask: bool) -> Secret | None:
    return Secret(click.prompt(f"Password of {path}", hide_input=True, err=True)) if ask else None
