"""``outgate serve``: check the configuration, then become gunicorn."""

import json
import os
import sys

import click

from proxy import upgrading
from proxy.app import application, assemble
from proxy.cli.options import config_option, split_bind
from proxy.config import CONFIG_VARIABLE, load


@click.command()
@config_option
@click.option(
    "--bind",
    callback=split_bind,
    envvar="OUTGATE_BIND",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="HOST:PORT",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="OUTGATE_WORKERS",
    default=2,
    show_default=True,
    help="Processes.",
)
@click.option(
    "--threads",
    type=click.IntRange(17, 4096),
    envvar="OUTGATE_THREADS",
    default=128,
    show_default=True,
    help="Threads a process; each stream takes one, 16 are kept for health checks and refusals.",
)
@click.option(
    "--pid-file",
    envvar="OUTGATE_PID_FILE",
    metavar="PATH",
    help="Holds the number of the main process, to which signals go; during an upgrade PATH.2 that of the new one.",
)
def serve(
    path: str, bind: tuple[str, int], workers: int, threads: int, pid_file: str | None
) -> None:
    """Serve calls under gunicorn, after checking the configuration.

    Put nginx in front of it (deploy/nginx.conf): gunicorn's threads must never face slow clients.

    \b
    Example:
      outgate serve --config outgate.toml --bind 127.0.0.1:8000 --workers 2
    """
    application(*assemble(load(path)))  # a mistake is told here, once, before any worker starts
    environment = {
        **os.environ,
        CONFIG_VARIABLE: path,
        "OUTGATE_BIND": f"[{bind[0]}]:{bind[1]}" if ":" in bind[0] else f"{bind[0]}:{bind[1]}",
        "OUTGATE_WORKERS": str(workers),
        "OUTGATE_THREADS": str(threads),
        "OUTGATE_PID_FILE": pid_file or "",
        upgrading.COMMAND_VARIABLE: json.dumps(upgrading.command()),
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "python:proxy.serving", "wsgi:app"]
    click.echo(f"outgate: serving {path} on http://{environment['OUTGATE_BIND']}", err=True)
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter, fixed arguments
