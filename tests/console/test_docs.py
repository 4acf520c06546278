"""The documentation in the console: behind its door, every page, picture and source, found and searched."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import manual
from proxy.console.docs import Docs
from tests.console.material import look, shown
from tests.console.test_pages import KNOWN, Page
from tests.gateway import Gateway
from tests.pages import DOCS


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with shown(tmp_path_factory.mktemp("audit")) as gate:
        yield gate


def page(gate: Gateway, path: str, status: int = 200) -> Page:
    answer = look(gate, f"/console/docs{path}")
    assert answer.status == status
    found = Page(answer.body)
    assert {tag for tag, _ in found.elements} <= KNOWN | {"article", "em", "strong", "h4"}
    return found


def test_every_page_is_shown_among_all_others(gate: Gateway) -> None:
    for name, one in manual.pages().items():
        found = page(gate, f"/{name}")
        assert one.title in found.text
        links = {attributes.get("href") for tag, attributes in found.elements if tag == "a"}
        assert {f"/console/docs/{other}" for other in manual.pages()} <= links
        here = [a for tag, a in found.elements if tag == "a" and a.get("aria-current") == "page"]
        assert [a["href"] for a in here] == ["/console/docs", f"/console/docs/{name}"]


def test_without_a_name_all_pages_are_listed_with_a_line_on_each(gate: Gateway) -> None:
    text = page(gate, "").text
    for one in manual.pages().values():
        assert one.label in text
        assert one.brief in text


def test_a_page_that_is_not_there_is_a_404_with_the_nearest_name(gate: Gateway) -> None:
    assert "Did you mean 'routing'?" in page(gate, "/rooting", 404).text
    for path in ("/../pages.py", "/%2e%2e/pages.py", "/routing/x", "/<script>", "/x.md", "/x.png"):
        page(gate, path, 404)


def test_a_search_shows_the_sections_that_have_the_words(gate: Gateway) -> None:
    found = page(gate, "?search=circuit+breakers")
    assert "/console/docs/routing#circuit-breakers" in [a.get("href") for _, a in found.elements]
    assert "Nothing is said of it." in page(gate, "?search=xyzzy").text
    assert "more: add a word" in page(gate, "?search=the").text
    assert "<b>" in page(gate, "?search=%3Cb%3E%22").text


def test_pictures_sources_and_the_map_are_served_as_they_are(gate: Gateway) -> None:
    picture = look(gate, "/console/docs/console-overview.png")
    assert (picture.header("content-type"), picture.body[:4]) == ("image/png", b"\x89PNG")
    source = look(gate, "/console/docs/routing.md")
    assert source.header("content-type") == "text/markdown; charset=utf-8"
    assert source.body.decode() == (DOCS / "routing.md").read_text()
    told = look(gate, "/console/docs/llms.txt")
    assert told.header("content-type") == "text/plain; charset=utf-8"
    assert told.body.decode() == manual.map_of_pages()


def test_nobody_without_the_token_reads_anything(gate: Gateway) -> None:
    for path in ("", "/routing", "/routing.md", "/llms.txt", "/console-overview.png", "/nothing"):
        answer = look(gate, f"/console/docs{path}", [])
        assert answer.status == 401, path
        assert b"breaker" not in answer.body


def test_every_picture_of_a_page_is_there(tmp_path: Path) -> None:
    docs = Docs()
    for path in DOCS.glob("*.png"):
        assert docs.file(path.name) is not None
    assert docs.file("") is docs.file("nothing.md") is docs.file("../view.py") is None
