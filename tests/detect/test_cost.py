"""What texts made to be slow cost with the bundled rules: no more than their length."""

import random
import time
import zlib
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from plugins.pii import Pii
from plugins.secrets import Secrets
from proxy.detect.detector import Detector
from proxy.detect.engine import Engine
from proxy.detect.syntax import parse
from tests.detect.material import sample

BUNDLED = [*Secrets().detectors(), *Pii().detectors()]
CHECKED = [detector for detector in BUNDLED if detector.check and not detector.find]


def shapes(detector: Detector) -> Iterator[str]:
    """What a rule looks for, not quite or over and over: contexts without cores, matches that end too early."""
    maker = random.Random(zlib.crc32(detector.kind.encode()))
    context, core, tail = (
        sample(parse(pattern), maker)
        for pattern in (detector.context, detector.opens or detector.core, detector.tail)
    )
    yield context or core[:4]
    yield context + core + tail
    yield (context + core)[:-1]


def filled(shape: str, size: int) -> str:
    return (shape * (size // len(shape) + 1))[:size]


@pytest.mark.parametrize("part", range(8))
def test_checks_are_asked_as_often_as_the_text_is_long(part: int) -> None:
    for detector in CHECKED[part::8]:
        asked: list[str] = []

        def check(text: str, asked: list[str] = asked, detector: Detector = detector) -> bool:
            asked.append(text)
            assert detector.check is not None
            return detector.check(text)

        engine = Engine([replace(detector, check=check)])
        for shape in shapes(detector):
            counts = []
            for size in (1_500, 6_000):
                asked.clear()
                engine.find(filled(shape, size))
                counts.append(len(asked))
            assert counts[1] <= 4 * 1.5 * counts[0] + 40, (detector.kind, shape)


HOSTILE = [
    "host=password=",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY----",
    "bedrock-api-key-OIQWd6h77J72bbObwh8",
    "JSESSIONID=",
    "?code=",
    "token token ",
    "Api Key Key_",
    "pdl_sdbx_apikey_oYVLre9cCeEiZudazBqXK ",
    "SWMKEY-1-ZoVEkZguQuPv2G8FH7onx5Z111BAwavl ",
    "Data Source=_Y&password=DEI5",
    "ahv ':\n75641817291.38 ",
    "a.b@c.",
    "4 4-",
    "1 Main ",
    "Mr. Name ",
    "AbCd1_",
]
ENGINE = Engine(BUNDLED)


@pytest.mark.parametrize("shape", HOSTILE)
def test_with_all_rules_time_grows_with_the_text_and_no_faster(shape: str) -> None:
    def spent(size: int) -> float:
        whole = filled(shape, size)
        ENGINE.find(whole)
        return min(_timed(whole) for _ in range(2))

    assert spent(40_000) < 4 * 3 * spent(10_000) + 0.01


def _timed(whole: str) -> float:
    start = time.thread_time()
    ENGINE.find(whole)
    return time.thread_time() - start
