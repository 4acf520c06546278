"""``outgate audit``: make the keys of the trail, check it, read it, and remove what is old."""

from typing import Any

import click

from proxy.cli.audit.checking import verify
from proxy.cli.audit.exporting import export
from proxy.cli.audit.looking import search, show, tail
from proxy.cli.audit.making import init
from proxy.cli.audit.opening import decrypt
from proxy.cli.audit.pruning import prune
from proxy.cli.telling import told


class _Group(click.Group):
    """Answers mistakes, and files that cannot be read, with a sentence that no terminal acts upon."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with told(status=1):
                return super().invoke(ctx)
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
