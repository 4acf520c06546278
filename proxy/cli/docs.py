"""``outgate docs``: the documentation, for people behind a wall that no website passes."""

from importlib.resources import files

import click


@click.command()
@click.argument("topic", required=False)
def docs(topic: str | None) -> None:
    """Print a page of the documentation, or the list of pages.

    \b
    Example:
      outgate docs configuration
    """
    pages = {
        page.name.removesuffix(".md"): page
        for page in files("proxy").joinpath("docs").iterdir()
        if page.name.endswith(".md")
    }
    if topic is None:
        for name, page in sorted(pages.items()):
            click.echo(f"{name:16} {page.read_text('utf-8').splitlines()[0].lstrip('# ')}")
        return
    if topic not in pages:
        raise click.ClickException(f"no page {topic!r}; there are: {', '.join(sorted(pages))}")
    click.echo_via_pager(pages[topic].read_text("utf-8"))
