"""``outgate audit init``: the two pairs of keys."""

from pathlib import Path
from typing import Final

import click

from proxy.audit import keys
from proxy.cli.audit.printing import plain
from proxy.secret import Secret

_MEANINGS: Final = (
    "the auditor's: keep it off the gateway",
    "seal_to",
    "sign_with: on the gateway, readable by its user only",
    "for everybody who checks",
)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False))
@click.option(
    "--ask-password", is_flag=True, help="Ask for a password that encrypts the auditor's key."
)
def init(directory: str, ask_password: bool) -> None:
    """Make the keys of the trail: one pair to seal with and one to sign with; no file is ever overwritten.

    The gateway needs the second and the third file. Keep the first one, which opens what is sealed, off it.

    \b
    Example:
      outgate audit init keys
    """
    password = None
    if ask_password:
        asked = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        password = Secret(asked)
    paths = keys.create(Path(directory), password)
    width = max(len(str(path)) for path in paths)
    for path, meaning in zip(paths, _MEANINGS, strict=True):
        click.echo(f"{plain(path).ljust(width)}   {meaning}")
    private, public, signer, _ = paths
    click.echo(
        "\nThen:\n"
        f"  move {plain(private)} to where the auditor keeps secrets; without it no mac can be checked\n"
        '  add to outgate.toml:\n\n[audit]\ndirectory = "/var/lib/outgate/audit"\n'
        f"seal_to = {_quoted(public)}\nsign_with = {_quoted(signer)}"
    )


def _quoted(path: Path) -> str:
    return '"' + plain(path.absolute()).replace('"', '\\"') + '"'
