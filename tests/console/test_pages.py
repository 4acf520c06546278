"""The pages show what the trail and the configuration say, and nothing that anybody wrote acts in them."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.console.material import TOKEN, a_day, look, outcome, shown, write_segment
from tests.gateway import COMPLETION, KEY, UPSTREAM_KEY, Gateway

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE calls; --",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x1b[31mred",
    "\u202egnp.exe\u2066",
    "a\r\nSet-Cookie: x=1",
    "\u0000\u0007\u200b\ufeff",
    "x" * 1_000_000,
    "</td></table><h1>mine</h1>",
    "javascript:alert(1)",
    "𝕏" * 3000,
]
#: Elements that a page of ours has; none of them runs anything.
KNOWN: frozenset[str] = frozenset(
    re.findall(
        r"\w+",
        "a b bdi body button caption code dd details div dl dt figcaption figure footer form g h1 h2 h3"
        " head header html img input label li line link main meta nav ol option p pre rect section"
        " select span summary svg table tbody td text th thead time title tr ul",
    )
)


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, and the text."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def harmless(self) -> "Page":
        for tag, attributes in self.elements:
            assert tag in KNOWN, tag
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                assert name not in ("style", "srcdoc", "formaction"), (tag, name)
                if name in ("href", "src", "action"):
                    assert (value or "").startswith(("/console", "?", "#")), (tag, value)
        return self

    def ids(self) -> list[str]:
        return [
            value or ""
            for _, found in self.elements
            for name, value in found.items()
            if name == "id"
        ]


def page(gate: Gateway, path: str = "") -> Page:
    answer = look(gate, f"/console{path}")
    assert answer.status in (200, 404), answer.body
    return Page(answer.body).harmless()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def test_the_page_shows_what_the_gateway_did(tmp_path: Path) -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"employee-id": "E-[0-9]{6}"}}}
    with shown(tmp_path, plugins=[guard]) as gate:
        assert gate.ask(COMPLETION).status == 200
        assert gate.ask({**COMPLETION, "prompt": "who is E-123456?"}).status == 400
        gate.record(2)
        overview = page(gate)
        assert "Calls2" in re.sub(r"\s", "", overview.text)
        assert "employee-id" in overview.text
        refused, answered = gate.records[1], gate.records[0]
        one = page(gate, f"/calls/{refused.id}")
        for said in (refused.id, "regex_guard", "denied", "employee-id", "deny", refused.policy):
            assert str(said) in one.text
        assert "123456" not in one.text.replace(refused.id, "").replace(KEY, "")
        both = page(gate, f"/calls/{answered.id}")
        assert "intent" in both.text
        assert "outcome" in both.text
        assert "static_keys" in both.text
        assert (page(gate, "/calls?outcome=denied").text.count("denied")) > 1
        assert answered.id[:12] not in page(gate, "/calls?outcome=denied").text


def test_calls_are_there_at_the_next_look(tmp_path: Path) -> None:
    with shown(tmp_path) as gate:
        for number in range(1, 4):
            gate.ask(COMPLETION)
            gate.record(number)
            assert f"Calls{number}" in re.sub(r"\s", "", page(gate).text)


def hostile(text: str, number: int, now: float) -> Any:
    return outcome(
        f"evil{number}",
        now - 20 + number,
        **dict.fromkeys(("principal", "model", "code", "denied_by", "client", "upstream"), text),
        outcome="denied",
        metadata={"team": text, text[:50]: text},
        groups=[text],
        verdicts=[{"plugin": text, "hook": text, "verdict": text, "detail": text}],
        findings=[{"kind": text, "place": text, "plugin": text, "action": text}],
        failures=[{"upstream": text, "kind": text, "detail": text}],
        notes={text[:50]: [text, {"deep": text}]},
        endpoint=text,
    )


def test_nothing_that_a_record_holds_acts_on_any_page(directory: Path) -> None:
    now = time.time()
    write_segment(directory, [hostile(text, n, now) for n, text in enumerate(HOSTILE)])
    with shown(directory) as gate:
        records = [f"/calls/evil{number}" for number in range(len(HOSTILE))]
        for path in ("", "?span=day", "/calls", "/spend", "/chain", *records):
            answer = look(gate, f"/console{path}")
            assert answer.status == 200, path
            assert len(answer.body) < 1_500_000, path
            found = Page(answer.body).harmless()
            assert not re.search(
                "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]",
                found.text,
            )
        assert "<script>alert(1)</script>" in page(gate, "/calls/evil0").text
        assert "\\u202egnp.exe" in page(gate, "/calls/evil5").text
        assert "(+999,840 characters)" in page(gate, "/calls/evil8").text


@pytest.mark.parametrize("text", [*HOSTILE[:8], "%", "%00", "\udcff", "..", "../../etc/passwd"])
def test_nothing_that_an_address_holds_acts_on_any_page(tmp_path: Path, text: str) -> None:
    written = quote(text, errors="surrogatepass")
    with shown(tmp_path) as gate:
        names = ("outcome", "team", "model", "since", "before", "live", "span", "period", "odd")
        for name in names:
            for path in ("", "/calls", "/spend"):
                page(gate, f"{path}?{name}={written}")
        page(gate, f"/calls/{written}")
        page(gate, f"/{written}")


def test_a_wrong_time_is_told_beside_the_form(directory: Path) -> None:
    with shown(directory) as gate:
        found = page(gate, "/calls?since=yesterday&team=red")
        assert "'yesterday' is no time" in found.text
        values = [attrs.get("value") for tag, attrs in found.elements if tag == "input"]
        assert "yesterday" in values
        assert "red" in values


def test_older_calls_are_a_link_away(tmp_path: Path) -> None:
    now = time.time()
    write_segment(tmp_path, [outcome(f"c{n:03d}", now - 500 + n) for n in range(120)])
    with shown(tmp_path) as gate:
        seen: list[str] = []
        path: str | None = "/calls?principal=alice"
        while path is not None:
            found = page(gate, path)
            hrefs = [a.get("href") or "" for tag, a in found.elements if tag == "a"]
            seen += [
                href.rpartition("/")[2] for href in hrefs if href.startswith("/console/calls/")
            ]
            links = [a.get("href") or "" for tag, a in found.elements if a.get("rel") == "next"]
            path = f"/calls{links[0]}" if links else None
        assert seen == [f"c{n:03d}" for n in reversed(range(120))]


def test_live_is_a_choice_and_needs_no_script(directory: Path) -> None:
    def refreshed(path: str) -> list[str | None]:
        found = page(gate, path)
        return [a["content"] for tag, a in found.elements if a.get("http-equiv") == "refresh"]

    with shown(directory) as gate:
        assert refreshed("") == []
        assert refreshed("?live=1") == ["10"]
        assert refreshed("/calls?live=1&team=a") == ["10"]
        assert refreshed("/spend?live=1") == []


def test_no_secret_is_on_any_page(directory: Path) -> None:
    with shown(directory, store={"url": f"sqlite:///{directory}/usage.db"}) as gate:
        gate.ask(COMPLETION)
        for path in ("", "/calls", "/spend", "/chain", f"/calls/{gate.record().id}"):
            body = look(gate, f"/console{path}").body.decode()
            for secret in (TOKEN, KEY, UPSTREAM_KEY):
                assert secret not in body, path


def test_without_a_trail_the_page_says_so() -> None:
    with shown(None) as gate:
        for path in ("", "/calls"):
            assert "no [audit] in the configuration" in page(gate, path).text
        assert look(gate, "/console/calls/x").status == 404


def test_a_trail_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with shown(tmp_path / "audit") as gate:
        moved = (tmp_path / "audit").rename(tmp_path / "elsewhere")
        try:
            for path in ("", "/calls"):
                assert "cannot be read: No such file" in page(gate, path).text
            assert look(gate, "/console/calls/x").status == 404
        finally:
            moved.rename(tmp_path / "audit")


def check_elements(found: Page, ids: list[str]) -> None:
    """What a screen reader or a keyboard needs of single elements."""
    for tag, attributes in found.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) in {None, *ids}
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"
        assert tag != "img" or "alt" in attributes
        assert tag != "th" or attributes["scope"] in ("col", "row")
        assert attributes.get("role") != "img" or attributes.get("aria-label")


def test_every_page_can_be_used_without_eyes_and_without_a_mouse(directory: Path) -> None:
    now = time.time()
    write_segment(directory, sorted(a_day(now - 5, 60), key=lambda record: record[0]))
    with shown(directory) as gate:
        for path in ("", "/calls", "/spend", "/chain", "/calls/evil0"):
            found = page(gate, path)
            tags = [tag for tag, _ in found.elements]
            assert tags.count("h1") == tags.count("main") == 1
            for landmark in ("header", "nav", "footer"):
                assert landmark in tags
            assert dict(found.elements)["html"]["lang"] == "en"
            ids = found.ids()
            assert len(ids) == len(set(ids)), path
            check_elements(found, ids)


def test_head_is_answered_like_get_without_a_body(directory: Path) -> None:
    with shown(directory) as gate:
        answer = look(gate, "/console", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
