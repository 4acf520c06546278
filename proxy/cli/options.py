"""Options that several commands share."""

from pathlib import Path
from typing import Final

import click

config_option: Final = click.option(
    "--config",
    "path",
    envvar="OUTGATE_CONFIG",
    default="outgate.toml",
    show_default=True,
    show_envvar=True,
    type=click.Path(dir_okay=False),
    help="The configuration file.",
)

_HIGHEST_PORT: Final = 65535


def named_or_there(path: str) -> bool:
    """Whether a configuration is to be read: the user named one, or there is one at its usual place."""
    source = click.get_current_context().get_parameter_source("path")
    return source is not click.core.ParameterSource.DEFAULT or Path(path).exists()


def split_bind(_context: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    """``HOST:PORT`` as its two parts; raises ``click.BadParameter``."""
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _HIGHEST_PORT:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, e.g. 127.0.0.1:8000")
    return host.strip("[]"), int(port)
