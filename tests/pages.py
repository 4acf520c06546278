"""The pages of the documentation, for the tests that hold them to the truth."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "proxy" / "docs"
README: Final = ROOT / "README.md"
PAGES: Final = [README, *sorted(DOCS.glob("*.md"))]

BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def named(pages: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each page."""
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return BLOCK.sub("", page.read_text())
