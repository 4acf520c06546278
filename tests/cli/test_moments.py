import time
from datetime import UTC, datetime

import click
import pytest

from proxy.cli.moments import Duration, Moment, duration, moment, written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600),
        ("0", 0), ("0d", 0), (" 1H ", 3600),
        ("24", None), ("", None), ("-1d", None), ("1.5h", None), ("d", None), ("1y", None),
        ("1d2h", None), ("٣d", None), ("9999999d", None),
    ],
)  # fmt: skip
def test_durations_have_a_unit(text: str, seconds: int | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+01:00", datetime(2027, 1, 31, 11, tzinfo=UTC)),
        ("2027-01-31 12:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_dates_without_a_zone_are_utc(text: str, expected: datetime) -> None:
    assert moment(text) == int(expected.timestamp())


@pytest.mark.parametrize("text", ["soon", "2027-13-01", "2027-02-30", "31.01.2027", ""])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    assert moment(text) is None
    with pytest.raises(click.BadParameter, match="write 90d, 2027-01-31"):
        Moment().convert(text, None, None)
    with pytest.raises(click.BadParameter, match="write 30m, 24h"):
        Duration().convert(text, None, None)


def test_a_duration_from_now_is_a_moment() -> None:
    assert moment("1h") == pytest.approx(time.time() + 3600, abs=600)


def test_moments_are_written_in_utc() -> None:
    assert written(0) == "1970-01-01 00:00:00"
    assert written(None) == "-"
