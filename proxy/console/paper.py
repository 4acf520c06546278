"""Pages of the documentation as HTML that the console's strict policy allows: no script, no style of its own."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape
from msgspec import Struct

from proxy import manual
from proxy.console.table import PATH

#: Where the pages are.
DOCS: Final = f"{PATH}/docs"
_WEB: Final = ("https://", "http://")


class Paper(Struct, frozen=True):
    """A page to show; ``contents`` are its headings of the second level with their anchors."""

    name: str
    title: str
    contents: tuple[tuple[str, str], ...]
    html: Markup


def paper(page: manual.Page) -> Paper:
    """A page as HTML, without its title, which the frame shows."""
    tokens = _MARKDOWN.parse(page.text)
    contents, used = [], set[str]()
    for mark, inner in pairwise(tokens):
        if mark.type != "heading_open":
            continue
        anchor = manual.anchor(inner.content)
        if anchor not in used:  # a second one of the name cannot be linked to
            mark.attrSet("id", anchor)
        used.add(anchor)
        if mark.tag == "h2":
            contents.append((anchor, manual.plain(inner.content)))
    html = _MARKDOWN.renderer.render(tokens[3:], _MARKDOWN.options, {})
    return Paper(page.name, page.title, tuple(contents), Markup(html))  # noqa: S704 - from our own files


def address(written: str) -> str | None:
    """Where a link of a page leads in the console; None for what is not here."""
    if written.startswith((*_WEB, "#")):
        return written
    name, _, anchor = written.partition("#")
    name = name.removesuffix(".md")
    if name not in manual.pages():
        return None
    return f"{DOCS}/{name}#{anchor}" if anchor else f"{DOCS}/{name}"


# -- how each part is written ----------------------------------------------------------------------

_Rule = Callable[[RendererHTML, Sequence[Token], int, Any, Any], str]


def _nothing(*_: Any) -> str:
    """Marks in the source, such as where a generated part begins."""
    return ""


def _code(_: RendererHTML, tokens: Sequence[Token], at: int, *__: Any) -> str:
    """A block of code, below the name of the file that it is."""
    words = tokens[at].info.split()
    name = f'<p class="file"><code>{escape(words[1])}</code></p>\n' if len(words) > 1 else ""
    return f'{name}<pre tabindex="0"><code>{escape(tokens[at].content)}</code></pre>\n'


def _table(*_: Any) -> str:
    return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'


def _end_of_table(*_: Any) -> str:
    return "</table></div>\n"


def _cell(writer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, _: Any) -> str:
    """A cell; its side is a class, as a style would be refused."""
    cell = tokens[at]
    if "right" in str(cell.attrs.pop("style", "")):
        cell.attrSet("class", "n")
    if cell.tag == "th":
        cell.attrSet("scope", "col")
    return writer.renderToken(tokens, at, options, {})


def _link(writer: RendererHTML, tokens: Sequence[Token], at: int, options: Any, _: Any) -> str:
    """A link to a page; what is not here, such as a file of the repository, is only named."""
    link = tokens[at]
    leads = address(str(link.attrs.pop("href")))
    if leads is not None:
        link.attrSet("href", leads)
    if leads and leads.startswith(_WEB):
        link.attrSet("rel", "noreferrer")
    return writer.renderToken(tokens, at, options, {})


def _picture(_: RendererHTML, tokens: Sequence[Token], at: int, *__: Any) -> str:
    picture = tokens[at]
    return f'<img src="{DOCS}/{escape(str(picture.attrs["src"]))}" alt="{escape(picture.content)}">'


_RULES: Final[dict[str, _Rule]] = {
    "html_block": _nothing,
    "html_inline": _nothing,
    "fence": _code,
    "code_block": _code,
    "table_open": _table,
    "table_close": _end_of_table,
    "th_open": _cell,
    "td_open": _cell,
    "link_open": _link,
    "image": _picture,
}


def _made() -> MarkdownIt:
    made = MarkdownIt("commonmark").enable("table")
    for name, rule in _RULES.items():
        made.add_render_rule(name, rule)
    return made


_MARKDOWN: Final = _made()
