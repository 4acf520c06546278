"""``outgate init``: a first configuration, with a key for its first caller."""

import hashlib
import secrets
from pathlib import Path
from typing import Final

import click

_PROVIDERS: Final = {
    "openai": ('base_url = "https://api.openai.com/v1"', "OPENAI_API_KEY", ""),
    "openai_compatible": (
        'base_url = "https://llm.example.com/v1"  # the address of your server, down to and with /v1',
        "UPSTREAM_API_KEY",
        "# allow_private = true  # the server stands in a private network, or speaks plain http\n",
    ),
}

_TEMPLATE: Final = """\
# Outgate. `outgate check --config {name}` says what this comes to.

[upstreams.main]
provider = "{provider}"
{base_url}
credential = {{ env = "{variable}" }}  # or {{ file = "/run/secrets/…" }}; a key never stands in this file
{private}
# The first route that fits decides; the upstreams of a route are tried in order.
[[routes]]
models = ["*"]
upstreams = ["main"]

# Plugins run in this order.
[[plugins]]
use = "{provider}"

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
@click.option(
    "--provider", type=click.Choice(sorted(_PROVIDERS)), required=True, help="Whom calls go to."
)
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
    key = f"og-{secrets.token_urlsafe(32)}"
    base_url, variable, private = _PROVIDERS[provider]
    text = _TEMPLATE.format(
        name=output,
        provider=provider,
        base_url=base_url,
        variable=variable,
        private=private,
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
    click.echo(
        f"Then:\n  export {variable}=…\n  outgate check --config {output}\n  outgate serve --config {output}"
    )
