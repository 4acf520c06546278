"""The command line: ``outgate COMMAND``; each command's ``--help`` shows an example."""

from importlib.metadata import version
from typing import Any

import click

from proxy.cli.audit import audit
from proxy.cli.check import check
from proxy.cli.database import database
from proxy.cli.demo import demo, demo_upstream
from proxy.cli.docs import docs
from proxy.cli.egress import egress
from proxy.cli.init import init
from proxy.cli.keys import keys
from proxy.cli.new_plugin import new_plugin
from proxy.cli.openapi import openapi
from proxy.cli.plugins import plugins
from proxy.cli.prices import prices
from proxy.cli.providers import providers
from proxy.cli.replay import replay
from proxy.cli.serve import serve
from proxy.cli.shadow import shadow
from proxy.cli.tests import run_tests
from proxy.cli.try_ import try_
from proxy.cli.usage import usage
from proxy.errors import ConfigError


class _Group(click.Group):
    """A group whose commands answer an operator's mistake with a sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("outgate"), prog_name="outgate")
def main() -> None:
    """Outgate: the guarded way out for calls to language models.

    \b
    Start here:
      outgate demo                         see it work, in a minute
      outgate init --provider openai       write a first outgate.toml
      outgate check --config outgate.toml  see what it means
      outgate serve --config outgate.toml  serve it
    """


@main.command("version")
def show_version() -> None:
    """Print the version.

    \b
    Example:
      outgate version
    """
    click.echo(version("outgate"))


for _command in (
    serve,
    check,
    plugins,
    try_,
    new_plugin,
    providers,
    init,
    keys,
    usage,
    prices,
    audit,
    replay,
    run_tests,
    shadow,
    database,
    egress,
    demo,
    demo_upstream,
    docs,
    openapi,
):
    main.add_command(_command)
