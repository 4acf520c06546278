"""Options that several commands share."""

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


def split_bind(_context: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    """``HOST:PORT`` as its two parts; raises ``click.BadParameter``."""
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > _HIGHEST_PORT:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, e.g. 127.0.0.1:8000")
    return host.strip("[]"), int(port)
