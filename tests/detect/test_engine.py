import os
import random
import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.detect.detector import Detector
from proxy.detect.engine import Engine
from proxy.errors import ConfigError
from tests.detect.material import DETECTORS, FRAGMENTS, LETTERS, PATTERNS, streamed, text

TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(alphabet=LETTERS, max_size=5)), max_size=12
).map("".join)
PLAIN = [detector for detector in PATTERNS if not detector.fold and detector.check is None]


def nothing(_: str) -> list[tuple[int, int]]:
    return []


def by_re(detector: Detector, whole: str) -> list[tuple[int, int]]:
    """What Python's own engine finds: an oracle that shares nothing with ours."""
    pattern = f"(?:{detector.context})({detector.core})(?:{detector.tail})".replace(r"\z", r"\Z")
    compiled = re.compile(
        pattern.replace("(?m:^)", "(?:^)").replace("(?m:$)", "(?=\n|\\Z)"), re.ASCII
    )
    multiline = re.compile(compiled.pattern, re.ASCII | (re.MULTILINE if "(?m:" in pattern else 0))
    found, position = [], 0
    while (match := multiline.search(whole, position)) is not None:
        found.append(match.span(1))
        position = match.end(1)
    return found


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_patterns_find_what_the_standard_library_finds(whole: str) -> None:
    found = Engine_PLAIN.find(whole)
    for index, detector in enumerate(PLAIN):
        ours = [(span.start, span.end) for span in found if span.detector == index]
        assert ours == by_re(detector, whole), detector.kind


Engine_PLAIN = Engine(PLAIN)


def test_findings_are_sorted_and_those_of_one_detector_do_not_overlap() -> None:
    maker = random.Random(3)
    engine = Engine(DETECTORS)
    for _ in range(300):
        spans = engine.find(text(maker))
        assert spans == sorted(spans)
        for index in range(len(DETECTORS)):
            own = [span for span in spans if span.detector == index]
            assert all(left.end <= right.start for left, right in pairwise(own))


def test_offsets_are_characters_in_texts_of_any_script() -> None:
    engine = Engine(
        [Detector.regex("id", r"\bE-\d{3}\b"), Detector.regex("folded", "abc", fold=True)]
    )
    assert engine.find("日本😀 E-123 é E-456 a\u200bЬс") == [(4, 9, 0), (12, 17, 0), (18, 22, 1)]


def test_classes_and_boundaries_know_ascii_only() -> None:
    engine = Engine([Detector.regex("word", r"\b\w{3}\b"), Detector.regex("digits", r"\d{3}")])
    assert engine.find("éabcé １２３") == [(1, 4, 0)]


def test_case_folding_stays_in_ascii() -> None:
    engine = Engine([Detector.regex("key", "(?i)kiosk")])
    assert [span[:2] for span in engine.find("KioSK \u212aio\u017fk kiosk")] == [(0, 5), (12, 17)]


def test_a_check_that_refuses_leaves_room_for_a_later_start() -> None:
    engine = Engine([Detector.regex("even", r"\d{4}", check=lambda found: int(found) % 5 == 0)])
    assert engine.find("12345") == [(1, 5, 0)]


def test_context_and_tail_are_not_part_of_what_is_found() -> None:
    engine = Engine([Detector.regex("quoted", r"\w{1,9}", context='"', tail='"')])
    assert engine.find('"ab"cd"') == [(1, 3, 0), (4, 6, 0)]


def test_a_character_that_stands_for_several_is_found_once() -> None:
    engine = Engine([Detector.regex("letter", "f|i", fold=True)])
    assert engine.find("ﬁ f") == [(0, 1, 0), (2, 3, 0)]


def test_a_function_sees_its_block_and_one_on_each_side() -> None:
    seen = []

    def find(part: str) -> list[tuple[int, int]]:
        seen.append(part)
        return [(0, 0), (-1, 1), (2, 99), (4, 6)]

    engine = Engine([Detector(kind="f", find=find, window=4, check=lambda found: found != "mn")])
    assert engine.find("abcdefghijklmnopqr") == [(4, 6, 0), (8, 10, 0), (16, 18, 0)]
    assert seen == ["abcdefgh", "abcdefghijkl", "efghijklmnop", "ijklmnopqr", "mnopqr"]


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        (Detector.regex("k", r"sk-\w+"), r"bound it, 'sk-.*\{1,200\}', or give 'opens'"),
        (Detector.regex("k", r"(?:a*b)*c"), r"'\(\?:a\{0,30\}b\)\{0,30\}c'"),
        (Detector.regex("k", "a", context=r"x\s*"), r"context: .*\\s{0,200}"),
        (Detector.regex("k", "a", tail=".*"), "tail: .*any length"),
        (Detector.regex("k", "a{0,3}"), "can match nothing at all"),
        (Detector.regex("k", r"\b"), "can match nothing at all"),
        (Detector.regex("k", "(?=a)b"), "core: .*it looks ahead; match what follows too"),
        (Detector.regex("k", r"a\C"), r"single bytes with \\C; write '\(\?s:\.\)'"),
        (Detector.regex("k", r"(?:\pL{1,1000}a){1}"), "too large once compiled"),
        (
            Detector.regex("k", r"\pL{200}", context=r"b\pL{200}", tail=r"\pL{200}"),
            "its patterns together are too large",
        ),
        (Detector(kind="k"), "in one way: 'core', 'opens' or 'find'"),
        (Detector(kind="k", core="a", opens="b"), "in one way"),
        (Detector(kind="k", find=nothing), "'find' needs 'window'"),
        (
            Detector(kind="k", find=nothing, window=9, tail="b"),
            "'context' and 'tail' go with patterns",
        ),
        (Detector(kind="k", core="a", closes="b"), "'closes' goes with 'opens'"),
        (Detector(kind="k", opens="a"), "'opens' needs 'closes' or 'tail'"),
        (Detector(kind="k", opens="a", closes="b?"), "'opens' needs 'closes' or 'tail'"),
        (Detector(kind="k", opens="a", closes="b", most=0), "'most' must be at least 1"),
    ],
)
def test_a_detector_that_the_engine_cannot_take_is_refused_with_the_nearest_form(
    detector: Detector, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        Engine([detector])
    assert "detector 'k': " in str(raised.value)


def test_patterns_are_compiled_when_a_text_first_asks_for_them() -> None:
    engine = Engine(
        [Detector.regex("sk", r"\bsk-\w{8,20}"), Detector.regex("gh", r"\bghp_\w{8,20}")]
    )
    assert engine.find("sk-abcdefgh and sk-") == [(0, 11, 0)]
    assert ["full" in vars(rule) for rule in engine._rules.values()] == [True, False]


def test_threads_share_one_engine() -> None:
    engine = Engine(DETECTORS)
    maker = random.Random(5)
    texts = [text(maker) for _ in range(60)]
    expected = [engine.find(whole) for whole in texts]
    wrong: list[str] = []

    def work() -> None:
        wrong.extend(w for w, e in zip(texts, expected, strict=True) if engine.find(w) != e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forked_process_uses_the_engine_it_was_given() -> None:
    engine = Engine(DETECTORS)
    expected = engine.find("ssn 123-45-6789")
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os._exit(0 if engine.find("ssn 123-45-6789") == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


HOSTILE: dict[str, Callable[[int], str]] = {
    "beginnings of addresses": lambda n: ("a" * 19 + "@") * (n // 20),
    "dots": lambda n: "a@" + "b." * (n // 2),
    "digits": lambda n: "4 " * (n // 2),
    "contexts without cores": lambda n: "password: " * (n // 10),
    "refused checks": lambda n: "4539148803436468" * (n // 16),
    "openings": lambda n: "-----BEGIN " * (n // 11),
    "closed again and again": lambda n: "-----BEGIN KEY----------END-----" * (n // 32),
    "near contexts": lambda n: "key k " * (n // 6),
    "many findings": lambda n: "é ab " * (n // 5),
    "split characters": lambda n: "ﬁ\u200b" * (n // 2),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_time_grows_with_the_text_and_no_faster(shape: str) -> None:
    engine = Engine(DETECTORS)

    def spent(size: int) -> float:
        whole = HOSTILE[shape](size)
        engine.find(whole)
        return min(_timed(lambda: engine.find(whole)) for _ in range(3))

    assert spent(64_000) < 8 * 3 * spent(8_000) + 0.005


@pytest.mark.parametrize("shape", HOSTILE)
def test_time_per_chunk_does_not_grow_with_the_stream(shape: str) -> None:
    engine = Engine(DETECTORS)

    def spent(size: int) -> float:
        whole = HOSTILE[shape](size)
        return min(_timed(lambda: _stream(engine, whole)) for _ in range(2))

    assert spent(16_000) < 4 * 4 * spent(4_000) + 0.005


def _stream(engine: Engine, whole: str) -> None:
    stream = engine.stream()
    for at in range(0, len(whole), 20):
        stream.feed(whole[at : at + 20])
    stream.finish()


def _timed(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def test_many_and_large_rules_without_a_literal_are_found_all_the_same() -> None:
    several = [
        Detector.regex(f"k{n}", rf"[a-z][0-9]{{{n + 4}}}[A-F0-9]{{0,900}}!") for n in range(30)
    ]
    engine = Engine(several)
    whole = "text " + "b" + "1" * 20 + "!"
    assert {span.detector for span in engine.find(whole)} == set(range(17))
    assert streamed(engine, whole) == (whole, engine.find(whole))
