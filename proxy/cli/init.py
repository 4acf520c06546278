"""``outgate init``: a first configuration, with a key for its first caller."""

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from proxy.cli.provided import one, open_settings, upstream_table
from proxy.model import Provider

_TEMPLATE: Final = """\
# Outgate. `outgate check --config {name}` says what this comes to.

{upstream}
# The first route that fits decides; the upstreams of a route are tried in order.
[[routes]]
models = ["*"]
upstreams = ["main"]

# Plugins run in this order.
[[plugins]]
use = "{plugin}"

[[plugins]]
use = "static_keys"
[plugins.options]
# For another caller: printf %s "$KEY" | sha256sum
keys = [
  {{ name = "first", groups = ["everyone"], sha256 = "{digest}" }},
]

# Which models who may use.
[[plugins]]
use = "models"
[plugins.options]
default = ["*"]

# What must never leave, in RE2's pattern language; try it with mode = "monitor" first.
[[plugins]]
use = "regex_guard"
[plugins.options.patterns]
private-key = '-----BEGIN [A-Z ]{{0,30}}PRIVATE KEY-----'

# One JSON line a call; required: while it cannot be written, no call is sent.
[[plugins]]
use = "log_jsonl"
required = true
# [plugins.options]
# path = "/var/log/outgate/calls.jsonl"
"""


@click.command()
@click.option("--provider", required=True, help="Whom calls go to; `outgate providers` lists them.")
@click.option(
    "--output", default="outgate.toml", show_default=True, type=click.Path(dir_okay=False)
)
def init(provider: str, output: str) -> None:
    """Write a commented configuration for a provider, with a key for its first caller.

    The key is printed once; the file holds only its digest. An existing file is never overwritten.

    \b
    Example:
      outgate init --provider openai --output outgate.toml
    """
    known = one(provider)
    key = f"og-{secrets.token_urlsafe(32)}"
    text = _TEMPLATE.format(
        name=output,
        plugin=known.plugin,
        upstream=upstream_table(known.provider, "main"),
        digest=hashlib.sha256(key.encode()).hexdigest(),
    )
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(
            f"{output}: {error.strerror}. Choose another --output."
        ) from None
    click.echo(f"{output} is written. The key of its first caller, shown only now:\n\n  {key}\n")
    click.echo("\n  ".join(["Then:", *_next(known.provider, output)]))


def _next(provider: Provider, output: str) -> Iterator[str]:
    """What is left to do, as lines of a shell."""
    if needed := open_settings(provider):
        yield f"# write your {' and '.join(needed)} into {output}"
    if provider.credential_variable:
        yield f"export {provider.credential_variable}=…"
    yield f"outgate check --config {output}"
    yield f"outgate serve --config {output}"
