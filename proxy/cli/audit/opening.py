"""``outgate audit decrypt``: the texts of a call, for who has the private key."""

import json
import os
import sys
from collections.abc import Sequence
from typing import BinaryIO

import click
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from proxy.audit.content import Opened, by_fingerprint, opened
from proxy.cli.audit.looking import found_call
from proxy.cli.audit.place import Place, place_options, private_options
from proxy.cli.audit.printing import as_json, plain
from proxy.errors import ConfigError


@click.command()
@place_options
@private_options
@click.argument("id_", metavar="ID")
@click.option("--side", type=click.Choice(["request", "reply"]), help="Only this one.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    help="A new file for the bytes as they were; needs --side if both were kept.",
)
def decrypt(
    place: Place,
    private: Sequence[X25519PrivateKey],
    id_: str,
    side: str | None,
    output: str | None,
) -> None:
    """Print what was sent and answered in a call, if [audit.content] kept it.

    On the terminal everything that is not printable ASCII is escaped.

    \b
    Example:
      outgate audit decrypt req_0123456789abcdef0123456789abcdef --private-key audit-sealing.private.pem
    """
    if not private:
        raise click.UsageError("--private-key is missing: the auditor's key opens what was kept")
    call = found_call(place, id_)
    own = by_fingerprint(private)
    texts = [text for text in opened(call.fields, call.id, own) if side in (None, text.side)]
    if not texts:
        what = f"the {side}" if side else "no text"
        raise ConfigError(
            f"of call {id_} {what} was kept: write request = true or reply = true in [audit.content]"
        )
    if output is None:
        for text in texts:
            _show(text)
        return
    if len(texts) > 1:
        raise click.UsageError("a file holds one text: add --side request or --side reply")
    with _new_file(output) as file:
        file.write(texts[0].text)
    _tell_cut(texts[0])


def _show(text: Opened) -> None:
    click.secho(f"{text.side}, {text.bytes} bytes", bold=True)
    try:
        click.echo(as_json(json.loads(text.text), indent=2))
    except (ValueError, RecursionError):
        for line in text.text.decode(errors="backslashreplace").split("\n"):
            click.echo(plain(line))
    _tell_cut(text)


def _tell_cut(text: Opened) -> None:
    if not text.is_whole:
        click.echo(
            f"only the first {len(text.text)} of {text.bytes} bytes were kept (audit.content.most_bytes)",
            file=sys.stderr,
        )


def _new_file(path: str) -> BinaryIO:
    """Prompts are in it: only its owner may read it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Choose another --output.") from None
    return os.fdopen(descriptor, "wb")
