from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.keywords import Keywords, lowered
from proxy import ConfigError
from proxy.detect.engine import Engine


def listed(directory: Path, *phrases: str) -> str:
    path = directory / "phrases.txt"
    path.write_text("\n".join(phrases), "utf-8")
    return str(path)


def found(plugin: Keywords, text: str) -> list[str]:
    return [text[start:end] for start, end, _ in Engine(list(plugin.detectors())).find(text)]


def few(*phrases: str) -> tuple[str, ...]:
    return phrases


def many(*phrases: str) -> tuple[str, ...]:
    """So many further phrases that the list becomes an automaton."""
    return (*phrases, *(f"filler phrase {number}" for number in range(1000)))


@pytest.mark.parametrize("more", [few, many])
def test_phrases_are_found_as_whole_words_in_any_case(
    tmp_path: Path, more: Callable[..., tuple[str, ...]]
) -> None:
    path = listed(tmp_path, "# projects", "", *more("Blue Heron", "ACME"))
    text = "About BLUE HERON: acme's plan, not acmeology; blue herons."
    assert found(Keywords(files={"project": path}), text) == ["BLUE HERON", "acme"]


@pytest.mark.parametrize("count", [0, 1000])
def test_case_and_words_are_the_operators_choice(tmp_path: Path, count: int) -> None:
    path = listed(tmp_path, "Heron", *(f"filler phrase {number}" for number in range(count)))
    assert found(Keywords(files={"p": path}, case=True), "heron Heron") == ["Heron"]
    assert found(Keywords(files={"p": path}, words=False), "herons") == ["heron"]


@pytest.mark.parametrize("count", [0, 1000])
def test_the_longest_of_overlapping_phrases_is_found(tmp_path: Path, count: int) -> None:
    path = listed(
        tmp_path, "blue", "blue heron", *(f"filler phrase {number}" for number in range(count))
    )
    assert found(Keywords(files={"p": path}), "a blue heron") == ["blue heron"]


def test_phrases_in_other_scripts_are_found(tmp_path: Path) -> None:
    path = listed(tmp_path, "Müller & Söhne", "青鷺計画")
    assert found(Keywords(files={"p": path}), "MÜLLER & SÖHNE, 極秘青鷺計画です") == [
        "MÜLLER & SÖHNE",
        "青鷺計画",
    ]


def test_a_hundred_thousand_phrases_are_one_detector(tmp_path: Path) -> None:
    path = listed(tmp_path, *(f"customer number {number}" for number in range(100_000)))
    plugin = Keywords(files={"customer": path})
    assert len(list(plugin.detectors())) == 1
    assert found(plugin, "For customer number 77777, see customer number 5.") == [
        "customer number 77777",
        "customer number 5",
    ]


@given(cut=st.integers(0, 60))
def test_a_stream_gives_what_the_whole_text_gives(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = listed(tmp_path_factory.mktemp("phrases"), *many("blue heron"))
    engine = Engine(list(Keywords(files={"p": path}).detectors()))
    text = "See the Blue Heron file, and filler phrase 12 after the blue heron."
    stream = engine.stream()
    pieces = [*stream.feed(text[:cut]), *stream.feed(text[cut:]), *stream.finish()]
    assert "".join(piece.text for piece in pieces) == text
    assert [span for piece in pieces for span in piece.spans] == engine.find(text)


@given(st.text())
def test_lower_case_keeps_every_character_in_its_place(text: str) -> None:
    assert len(lowered(text)) == len(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "lists no phrase"),
        (b"# only remarks\n\n", "lists no phrase"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 300, "longer than 256"),
    ],
)
def test_a_file_that_cannot_serve_stops_the_start(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        list(Keywords(files={"p": str(path)}).detectors())


def test_no_file_or_a_missing_one_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no files"):
        list(Keywords().detectors())
    with pytest.raises(ConfigError, match="cannot be read"):
        list(Keywords(files={"p": str(tmp_path / "none")}).detectors())
