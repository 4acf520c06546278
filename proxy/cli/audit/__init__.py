"""``outgate audit``: make the keys of the trail, check it, read it, and remove what is old."""

from typing import Any

import click

from proxy.audit import AuditFault
from proxy.audit.envelope import EnvelopeError
from proxy.cli.audit.checking import verify
from proxy.cli.audit.exporting import export
from proxy.cli.audit.looking import search, show, tail
from proxy.cli.audit.making import init
from proxy.cli.audit.opening import decrypt
from proxy.cli.audit.printing import plain
from proxy.cli.audit.pruning import prune
from proxy.errors import ConfigError


class _Group(click.Group):
    """Answers mistakes, and files that cannot be read, with a sentence that no terminal acts upon."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # who read the output has enough
            raise
        except OSError as error:
            about = f"{error.filename}: " if error.filename is not None else ""
            raise click.ClickException(plain(f"{about}{error.strerror or error}")) from None
        except (ConfigError, AuditFault, EnvelopeError) as error:
            raise click.ClickException(plain(error)) from None
        except KeyboardInterrupt:  # how tail -f ends
            raise click.exceptions.Exit(130) from None


@click.group(cls=_Group)
def audit() -> None:
    """The audit trail: make its keys, check it, read it, remove what is old.

    The trail is that of the configuration, or any directory with --directory, such as a copy.

    \b
    Example:
      outgate audit init keys
      outgate audit tail -f
      outgate audit verify --private-key audit-sealing.private.pem
    """


for _command in (init, verify, tail, show, search, export, prune, decrypt):
    audit.add_command(_command)
