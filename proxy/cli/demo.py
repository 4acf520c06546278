"""``outgate demo`` and ``outgate demo-upstream``: see it work without an account anywhere."""

import click

from proxy.cli.options import split_bind


@click.command()
@click.option(
    "--upstream",
    metavar="URL",
    help="A real OpenAI-compatible server to send the calls to, down to /v1.",
)
@click.option(
    "--model", metavar="NAME", help="The model to ask for, with --upstream or OPENAI_API_KEY."
)
@click.option(
    "--bind", callback=split_bind, default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT"
)
@click.option(
    "--once", is_flag=True, help="Stop after the calls instead of leaving the server running."
)
def demo(upstream: str | None, model: str | None, bind: tuple[str, int], once: bool) -> None:
    """Start a gateway, send three real calls through it, and show what happened to each.

    The calls go to a bundled server on this machine; with OPENAI_API_KEY set, or with --upstream,
    they go there.

    \b
    Example:
      outgate demo
      outgate demo --upstream http://127.0.0.1:8080/v1 --model my-model
    """
    from proxy.demo.tour import run

    raise SystemExit(run(upstream=upstream, model=model, bind=bind, once=once))


@click.command("demo-upstream")
@click.option(
    "--bind", callback=split_bind, default="127.0.0.1:9000", show_default=True, metavar="HOST:PORT"
)
@click.option("--api-key", help="Refuse calls without this key.")
@click.option(
    "--delay",
    type=click.FloatRange(0, 10),
    default=0.03,
    show_default=True,
    help="Seconds between streamed tokens.",
)
def demo_upstream(bind: tuple[str, int], api_key: str | None, delay: float) -> None:
    """Serve a small, deterministic stand-in for a model provider.

    Its text is made up from a word list, but every parameter of the completions API does what it should.

    \b
    Example:
      outgate demo-upstream --bind 127.0.0.1:9000
    """
    from proxy.demo.serving import serve

    click.echo(f"demo upstream on http://{bind[0]}:{bind[1]}/v1, stop it with Ctrl-C", err=True)
    serve(bind[0], bind[1], api_key=api_key, delay=delay)
