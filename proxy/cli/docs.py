"""``outgate docs``: the documentation, for people behind a wall that no website passes."""

import click

from proxy import manual
from proxy.errors import nearest

#: What a search shows at most.
_MOST = 25


@click.command()
@click.argument("topic", required=False)
@click.option(
    "--search", "words", metavar="WORDS", help="List the sections that have all these words."
)
def docs(topic: str | None, words: str | None) -> None:
    """Print a page of the documentation, one section of it, or the list of pages.

    \b
    Example:
      outgate docs
      outgate docs configuration
      outgate docs detection#masking
      outgate docs --search masking
      outgate docs llms.txt         a map of all pages, for language models
    """
    if words is not None:
        _found(words)
    elif topic is None:
        click.echo(_listed())
    elif topic == manual.MAP:
        click.echo(manual.map_of_pages(), nl=False)
    else:
        click.echo_via_pager(_text(topic))


def _listed() -> str:
    """The pages in their groups."""
    lines = []
    for group, pages in manual.grouped().items():
        lines += [group, *(f"  {page.name:16} {page.label}" for page in pages), ""]
    return "\n".join(
        [*lines, "Print one: outgate docs NAME. Look for one: outgate docs --search WORDS"]
    )


def _text(topic: str) -> str:
    """A page or, after ``#``, a section of it; raises ``click.ClickException`` with the nearest name."""
    name, _, anchor = topic.partition("#")
    name, pages = name.lower().removesuffix(".md"), manual.pages()
    if name not in pages:
        raise click.ClickException(
            f"no page {name!r}.{nearest(name, pages)} Look for it with: outgate docs --search {name}\n"
            f"There are: {', '.join(pages)}"
        )
    if not anchor:
        return pages[name].text
    sections = {section.anchor: section for section in pages[name].sections()}
    if anchor not in sections:
        raise click.ClickException(
            f"{name} has no section {anchor!r}.{nearest(anchor, sections)}"
            f" There are: {', '.join(sections)}"
        )
    return f"{sections[anchor].text}\n"


def _found(words: str) -> None:
    """The sections with these words; raises ``click.ClickException`` where there is none."""
    sections = manual.search(words)
    if not sections:
        known = {word.lower() for page in manual.pages().values() for word in page.text.split()}
        raise click.ClickException(f"nothing is said of {words!r}.{nearest(words.lower(), known)}")
    for section in sections[:_MOST]:
        place = f"{section.page}#{section.anchor}"
        click.echo(f"{place:44} {section.title}")
    if len(sections) > _MOST:
        click.echo(f"… and {len(sections) - _MOST} more: add a word to narrow it down")
