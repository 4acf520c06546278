"""The documentation within the console: pages, their pictures, a search, and the sources for programs."""

import threading
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct

from proxy import manual
from proxy.console.paper import Paper, paper
from proxy.errors import nearest

_PLAIN: Final = "text/plain; charset=utf-8"
#: What a search shows at most.
_MOST: Final = 50


class File(Struct, frozen=True):
    """Something that is served as it is."""

    content: bytes
    kind: str


class Docs:
    """Reads what is asked for at its first use, and keeps it."""

    def __init__(self) -> None:
        self._papers: dict[str, Paper] = {}
        self._lock = threading.Lock()
        folder = files("proxy").joinpath("docs")
        self._pictures = {
            file.name: file for file in folder.iterdir() if file.name.endswith(".png")
        }

    def file(self, name: str) -> File | None:
        """A picture, the source of a page, or the map for language models."""
        if name in self._pictures:
            return File(self._pictures[name].read_bytes(), "image/png")
        if name == manual.MAP:
            return File(manual.map_of_pages().encode(), _PLAIN)
        page = manual.pages().get(name.removesuffix(".md")) if name.endswith(".md") else None
        return File(page.text.encode(), "text/markdown; charset=utf-8") if page else None

    def shown(self, name: str, words: str) -> Mapping[str, Any]:
        """What the template shows: a page, what a search found, or, without both, the list alone."""
        found = manual.search(words) if words else []
        return {
            "groups": manual.grouped(),
            "paper": self._paper(name),
            "words": words,
            "found": found[:_MOST],
            "more": max(0, len(found) - _MOST),
            "missing": f"There is no page {name!r}.{nearest(name, manual.pages())}",
        }

    def _paper(self, name: str) -> Paper | None:
        page = manual.pages().get(name)
        if page is None:
            return None
        with self._lock:  # one page is enough to be rendered at a time
            if name not in self._papers:
                self._papers[name] = paper(page)
        return self._papers[name]
