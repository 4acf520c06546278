"""Commands whose exit status tells: 0 as it should be, 1 not so, 2 it could not be told."""

from typing import Any, Final

import click

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
    """Answers mistakes, and files that cannot be read, with a sentence and status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; ends the process for a mistake."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # who read the output has enough
            raise
        except OSError as error:
            about = f"{error.filename}: " if error.filename is not None else ""
            told = f"{about}{error.strerror or error}"
        except (ConfigError, EnvelopeError) as error:
            told = str(error)
        click.echo(f"Error: {plain(told)}", err=True)
        raise SystemExit(_COULD_NOT)
