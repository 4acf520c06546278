"""A page of the documentation is HTML that needs no script, no style of its own and nothing from elsewhere."""

import pytest

from proxy import manual
from proxy.console.paper import address, paper
from tests.console.test_pages import KNOWN, Page

#: Elements of a text, beside those of the console.
TEXT = KNOWN | {"blockquote", "em", "h4", "hr", "strong"}


def written(text: str) -> str:
    return str(paper(manual.Page("page", "Learn", f"# Page\n\n{text}")).html)


@pytest.mark.parametrize("page", manual.pages().values(), ids=manual.pages())
def test_a_page_has_only_what_the_browser_is_allowed(page: manual.Page) -> None:
    shown = paper(page)
    found = Page(shown.html.encode())
    for tag, attributes in found.elements:
        assert tag in TEXT, tag
        assert not {"style", "srcdoc", "formaction", "target"} & attributes.keys(), (
            tag,
            attributes,
        )
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            where = attributes.get(name) or "#"
            assert where.startswith(("/console/docs/", "#", "https://", "http://")), where
    assert len(found.ids()) == len(set(found.ids()))
    assert "<!--" not in shown.html
    assert "generated:" not in found.text
    assert shown.title not in found.text.splitlines()[:1]


def test_every_link_within_the_documentation_leads_to_a_heading() -> None:
    papers = {name: paper(page) for name, page in manual.pages().items()}
    ids = {name: set(Page(shown.html.encode()).ids()) for name, shown in papers.items()}
    for name, shown in papers.items():
        for _, attributes in Page(shown.html.encode()).elements:
            link = attributes.get("href") or ""
            if link.startswith(("/console/docs/", "#")):
                target, _, anchor = link.removeprefix("/console/docs/").partition("#")
                assert not anchor or anchor in ids[target or name], (name, link)


def test_a_link_is_to_a_page_here_to_the_web_or_none() -> None:
    assert address("routing.md#aliases") == "/console/docs/routing#aliases"
    assert address("#aliases") == "#aliases"
    assert address("https://example.com/a") == "https://example.com/a"
    assert address("../../examples/dlp.toml") is None
    assert address("javascript:alert(1)") is None
    assert "<a>named</a>" in written("[named](../../LICENSE)")
    assert 'rel="noreferrer"' in written("[there](https://example.com)")


def test_the_marks_of_generated_parts_are_left_out() -> None:
    text = written("a <b>c</b>\n\n<!-- generated: x -->\n| h |\n|---:|\n| `1` |\n<!-- end -->\n")
    assert "<b>" not in text
    assert "--" not in text
    assert '<td class="n"><code>1</code></td>' in text
    assert '<th class="n" scope="col">h</th>' in text


def test_code_is_text_below_the_name_of_its_file() -> None:
    text = written("```py plugin.py\nif a < b and '\"':\n    pass\n```\n")
    assert '<p class="file"><code>plugin.py</code></p>' in text
    assert "if a &lt; b and" in text
    assert 'tabindex="0"' in text


def test_the_contents_are_the_headings_of_the_second_level() -> None:
    shown = paper(
        manual.Page("page", "Learn", "# Page\n\nText.\n\n## `one`\n\n### in it\n\n## Two\n")
    )
    assert shown.contents == (("one", "one"), ("two", "Two"))
    assert '<h3 id="in-it">' in shown.html
