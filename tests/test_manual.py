"""The documentation has an order, is found by its words, and is told to language models in one page."""

import re

from proxy import manual
from tests.pages import DOCS


def test_every_page_is_in_a_group() -> None:
    names = [name for group in manual.GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    assert {path.stem for path in DOCS.glob("*.md")} <= set(names)
    assert manual.REST not in manual.grouped()
    assert list(manual.grouped()) == list(manual.GROUPS)


def test_every_page_says_in_its_first_paragraph_what_it_is_about() -> None:
    for page in manual.pages().values():
        assert re.fullmatch(r"[A-Z].*\.", page.brief), page.name
        assert len(page.brief) < 400, page.name
        assert page.title[0] not in "#`"


def test_a_line_of_code_that_looks_like_a_heading_is_none() -> None:
    text = "# Page\n\nAbout.\n\n```toml\n# outgate.toml\n```\n\n## `[a.b]` and `c`\n\nSaid.\n"
    first, second = manual.Page("page", "Learn", text).sections()
    assert (first.title, second.title) == ("Page", "[a.b] and c")
    assert second.anchor == "ab-and-c"
    assert second.text.endswith("Said.")


def test_what_stands_in_a_heading_is_found_first() -> None:
    found = manual.search("Circuit BREAKERS")
    assert (found[0].page, found[0].anchor) == ("routing", "circuit-breakers")
    assert all("circuit" in section.text.lower() for section in found)
    assert all("breakers" in section.text.lower() for section in found)


def test_nothing_is_found_of_nothing() -> None:
    assert manual.search("") == manual.search("  ") == manual.search("xyzzy") == []


def test_the_map_has_every_page_with_its_first_lines() -> None:
    text = manual.map_of_pages()
    head, *groups = re.split(r"^## ", text, flags=re.MULTILINE)
    assert re.fullmatch(r"# Outgate\n\n> .+\n\n.+\n\n", head)
    assert [group.partition("\n")[0] for group in groups] == list(manual.GROUPS)
    entries = re.findall(r"^- \[(.+)\]\((.+)\.md\): (.+)$", text, re.MULTILINE)
    assert [name for _, name, _ in entries] == list(manual.pages())
    for title, name, summary in entries:
        page = (DOCS / f"{name}.md").read_text()
        assert page.startswith(f"# {title}\n")
        assert summary[:40].split("[")[0] in page.replace("\n", " ")
