"""Times as people write them on a command line: ``90d``, ``24h``, ``2027-01-31``."""

import re
import time
from datetime import UTC, datetime
from typing import Final

import click

_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdw]?)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType[int]):
    """``30m``, ``24h``, ``7d``, ``2w``; ``0`` is none. The value is whole seconds."""

    name = "DURATION"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Raises ``click.BadParameter``."""
        seconds = value if isinstance(value, int) else duration(value)
        if seconds is None:
            self.fail(f"{value!r} is no duration: write 30m, 24h, 7d, 2w or 0", param, ctx)
        return seconds


class Moment(click.ParamType[int]):
    """A duration from now, or ``2027-01-31``, or ``2027-01-31T12:00:00+01:00``. The value is seconds since 1970."""

    name = "MOMENT"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Raises ``click.BadParameter``."""
        found = value if isinstance(value, int) else moment(value)
        if found is None:
            self.fail(
                f"{value!r} is no moment: write 90d, 2027-01-31 or 2027-01-31T12:00:00Z", param, ctx
            )
        return found


def duration(text: str) -> int | None:
    """Seconds, or None for what is no duration; a number without a unit is only taken when it is zero."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or (not match[2] and int(match[1])):
        return None
    return int(match[1]) * _SECONDS[match[2] or "s"]


def moment(text: str) -> int | None:
    """Seconds since 1970, or None for what is no moment; without a zone it is UTC."""
    if (seconds := duration(text)) is not None:
        return int(time.time()) + seconds
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def written(seconds: int | None) -> str:
    """A moment for people, in UTC to the second; ``-`` for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
