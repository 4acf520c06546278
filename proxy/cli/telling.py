"""Mistakes, and files that cannot be read, told in a sentence that no terminal acts upon."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

from proxy.audit import AuditFault
from proxy.audit.envelope import EnvelopeError
from proxy.cli.audit.asking import past
from proxy.cli.audit.printing import plain
from proxy.errors import ConfigError

_COULD_NOT: Final = 2

since_option: Final = click.option(
    "--since",
    callback=past,
    metavar="TIME",
    help="Calls that began then or later: 24h, 7d (ago), 2026-08-01.",
)


class Telling(click.Command):
    """A command whose exit status tells: 0 as it should be, 1 not so, 2 it could not be told."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; ends the process for a mistake."""
        with told(_COULD_NOT):
            return super().invoke(ctx)


@contextmanager
def told(status: int) -> Iterator[None]:
    """End the command with ``status`` for a mistake, or a file that cannot be read."""
    try:
        yield
    except BrokenPipeError:  # who read the output has enough
        raise
    except OSError as error:
        about = f"{error.filename}: " if error.filename is not None else ""
        _end(f"{about}{error.strerror or error}", status)
    except (AuditFault, ConfigError, EnvelopeError) as error:
        _end(str(error), status)


def _end(text: str, status: int) -> NoReturn:
    click.echo(f"Error: {plain(text)}", err=True)
    raise click.exceptions.Exit(status) from None
