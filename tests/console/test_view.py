"""Every template prints everything escaped, and needs nothing from elsewhere."""

import re

import pytest
from jinja2 import UndefinedError
from werkzeug.exceptions import NotFound

from proxy.console.view import HERE, View

TEMPLATES = sorted((HERE / "templates").glob("*.html"))
STYLE = (HERE / "static" / "console.css").read_text()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_script_or_a_style_of_its_own(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|\|\s*safe|autoescape", text)
    assert not re.search(r"(?:src|href|action)=\"(?!\{\{|#|\?)", text)


def test_the_style_asks_nobody_for_anything() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "prefers-color-scheme: dark" in STYLE


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_letters_and_bars_stand_out_from_what_is_behind_them(scheme: int) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for what is a picture (1.4.11)."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for text, behind in [
        ("ink", "card"), ("ink", "paper"), ("dim", "card"), ("dim", "paper"), ("dim", "soft"),
        ("link", "card"), ("link", "soft"), ("on-accent", "accent"), ("bad-ink", "bad-paper"),
        ("note-ink", "note-paper"), ("card", "ink"),
    ]:  # fmt: skip
        assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    bars = ["ok", "denied", "error", "cut", "gone", "lost", "open", "other", "focus", "reply"]
    for bar in [*bars, *(f"s{n}" for n in range(6))]:
        assert contrast(colours[bar], colours["card"]) >= 3, bar


def test_a_template_that_prints_what_is_not_there_fails_at_once() -> None:
    with pytest.raises(UndefinedError):
        View().page("wait.html")


def test_files_are_those_two_and_no_other() -> None:
    view = View()
    assert view.file("console.css").content_type == "text/css; charset=utf-8"
    assert view.file("icon.svg").content_type == "image/svg+xml"
    for name in ("../view.py", "view.py", ""):
        with pytest.raises(NotFound):
            view.file(name)
