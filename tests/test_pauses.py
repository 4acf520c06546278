"""How long an upstream asks to be left alone: in seconds, milliseconds, or until a date."""

import time
from email.utils import formatdate

import pytest

from proxy.pauses import asked_pause


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("retry-after", "7")], 7.0),
        ([("retry-after", " 7 ")], 7.0),
        ([("retry-after", "0")], 0.0),
        ([("retry-after", "1.5")], 1.5),
        ([("retry-after-ms", "250")], 0.25),
        ([("retry-after", "60"), ("retry-after-ms", "250")], 0.25),
        ([("retry-after-ms", "soon"), ("retry-after", "3")], 3.0),
        ([("retry-after", "-1")], None),
        ([("retry-after", "")], None),
        ([("retry-after", ".")], None),
        ([("retry-after", "1e9")], None),
        ([("retry-after", "nan")], None),
        ([("retry-after", "inf")], None),
        ([("retry-after", "٣")], None),
        ([("retry-after", "soon")], None),
        ([("retry-after", "9" * 400)], 31_536_000.0),
        ([("retry-after", "Mon, 01 Jan 0001 00:00:00 GMT")], 0.0),
        ([("retry-after", "Fri, 32 Dec 2027 00:00:00 GMT")], None),
    ],
)
def test_what_is_asked_for_is_understood_or_nothing(
    headers: list[tuple[str, str]], seconds: float | None
) -> None:
    assert asked_pause(headers) == seconds


def test_a_date_is_so_many_seconds_away_and_never_in_the_past() -> None:
    def until(moment: float) -> float:
        asked = asked_pause([("retry-after", formatdate(moment, usegmt=True))])
        assert asked is not None
        return asked

    assert 30 < until(time.time() + 60) <= 60
    assert until(time.time() - 60) == 0.0
    assert until(time.time() + 1e11) == 31_536_000.0
