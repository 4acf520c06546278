"""The documentation as pages: in groups, in the order to read them, searched, and as a map for language models."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from msgspec import Struct

#: The groups of pages, and their pages in the order to read them. A name that has no page (yet) is passed over.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Learn": ("tutorial",),
    "How to": (
        "block", "mask", "rewrite", "log", "route", "ship", "rehearsal", "bridge", "portkey",
    ),
    "Reference": (
        "configuration", "command-line", "endpoints", "dialects", "providers", "plugins", "reference",
        "bundled-plugins", "testing-plugins",
    ),
    "Explanation": ("architecture", "phases", "failures", "streams", "threats"),
    "Operate": (
        "deployment", "operations", "detection", "keys", "limits", "budgets", "routing", "caching",
        "outbound", "audit", "console", "sinks", "metrics",
    ),
}  # fmt: skip
#: Where a page is that no group names.
REST: Final = "More"
MAP: Final = "llms.txt"
_SAID: Final = (
    "Outgate is the guarded way out: a gateway that every call of a company to a language model passes through,"
    " so that who calls, what leaves and what comes back is checked, and recorded, in one place."
)
_FENCE: Final = "```"
_HEADING: Final = re.compile(r"#{1,6} ")


class Section(Struct, frozen=True):
    """A part of a page from one heading to the next; the first one is the top of the page."""

    page: str
    title: str
    anchor: str
    text: str


class Page(Struct, frozen=True):
    """One page, in Markdown."""

    name: str
    group: str
    text: str

    @property
    def title(self) -> str:
        """The heading that it begins with."""
        return plain(self.text.partition("\n")[0])

    @property
    def label(self) -> str:
        """The title in a list below the name of its group."""
        rest = self.title.removeprefix(f"{self.group} ")
        return rest[:1].upper() + rest[1:]

    @property
    def summary(self) -> str:
        """What the page is about, in Markdown."""
        paragraph = self.text.split("\n\n", 2)[1]
        return " ".join(paragraph.split())

    @property
    def brief(self) -> str:
        """The summary as plain text."""
        return _unlinked(self.summary).replace("**", "").replace("`", "")

    def sections(self) -> Iterator[Section]:
        """The page in parts; a line of code that looks like a heading is none."""
        lines, code = [""], False
        for line in self.text.splitlines():
            code ^= line.startswith(_FENCE)
            if not code and _HEADING.match(line):
                yield from self._section(lines)
                lines = []
            lines.append(line)
        yield from self._section(lines)

    def _section(self, lines: list[str]) -> Iterator[Section]:
        if _HEADING.match(lines[0]):
            yield Section(
                self.name, plain(lines[0]), anchor(lines[0].lstrip("# ")), "\n".join(lines)
            )


def plain(heading: str) -> str:
    """A heading without its marks."""
    return heading.lstrip("# ").replace("`", "")


def anchor(heading: str) -> str:
    """What a link to a heading ends in, as on the sites that show Markdown."""
    return re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower()


@cache
def pages() -> Mapping[str, Page]:
    """Every page by its name, in the order of the groups."""
    texts = {
        file.name.removesuffix(".md"): file.read_text("utf-8")
        for file in files("proxy").joinpath("docs").iterdir()
        if file.name.endswith(".md")
    }
    order = [(name, group) for group, names in GROUPS.items() for name in names]
    order += [(name, REST) for name in sorted(texts.keys() - {name for name, _ in order})]
    return {name: Page(name, group, texts[name]) for name, group in order if name in texts}


def grouped() -> Mapping[str, list[Page]]:
    """The groups with their pages."""
    found: dict[str, list[Page]] = {}
    for page in pages().values():
        found.setdefault(page.group, []).append(page)
    return found


def search(words: str) -> list[Section]:
    """The sections that have all of the words, those first that have them in their heading, or often."""
    wanted = words.lower().split()
    ranked = []
    for page in pages().values():
        for section in page.sections():
            title, text = section.title.lower(), section.text.lower()
            if wanted and all(word in text for word in wanted):
                named = all(word in title for word in wanted)
                ranked.append((not named, -sum(map(text.count, wanted)), section))
    return [section for *_, section in sorted(ranked, key=lambda found: found[:2])]


def map_of_pages() -> str:
    """All pages with a line on each, as language models are given it. Source: llmstxt.org."""
    lines = ["# Outgate", "", f"> {_SAID}", ""]
    lines += ["`outgate docs NAME` prints a page, `outgate docs --search WORD` looks for one.", ""]
    for group, members in grouped().items():
        lines += [f"## {group}", ""]
        lines += [
            f"- [{page.title}]({page.name}.md): {_unlinked(page.summary)}" for page in members
        ]
        lines.append("")
    return "\n".join(lines)


def _unlinked(text: str) -> str:
    """Markdown without its links, which lead elsewhere from there."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
