"""``outgate openapi``: the API as a document for programs."""

import click

from proxy.openapi import as_json


@click.command()
def openapi() -> None:
    """Print the API as an OpenAPI document, the one that GET /openapi.json answers.

    \b
    Example:
      outgate openapi > openapi.json
    """
    click.echo(as_json(), nl=False)
