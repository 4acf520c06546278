"""The list of disagreements between the live chain and its shadow: one JSON line each, never any content."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy.errors import ConfigError
from proxy.rehearsal.decision import Decision
from proxy.rehearsal.table import ShadowTable

_LONGEST_NAME: Final = 256


class Disagreement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call about which two chains differ, and in what; ``model`` is missing where something was found in it."""

    time: str
    id: str
    endpoint: str
    differs: tuple[str, ...]
    live: Decision
    shadow: Decision
    principal: str | None = None
    model: str | None = None
    policy: str = ""
    shadow_policy: str = ""


class Report:
    """The file that every process appends to, each line in one write; raises ``ConfigError`` if it cannot be made.

    A file that was renamed or removed is made anew with the next line. One that is full takes no more.
    """

    def __init__(self, table: ShadowTable) -> None:
        self._path, self._most = table.report, table.report_bytes
        try:
            os.close(self._open())
        except OSError as error:
            raise ConfigError(
                f"shadow.report = {table.report!r}: {error.strerror}. Name a file this user may write."
            ) from None

    def append(self, found: Disagreement) -> bool:
        """Add a line, if there is room; raises ``OSError`` when it could not be written whole."""
        line = line_of(found)
        descriptor = self._open()
        try:
            if os.fstat(descriptor).st_size + len(line) > self._most:
                return False
            if os.write(descriptor, line) != len(line):
                raise OSError("the line was not written to its end")
            return True
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)


def line_of(found: Disagreement) -> bytes:
    """One line of ASCII that no terminal acts upon."""
    told = json.dumps(msgspec.to_builtins(found), separators=(",", ":"))
    return told.replace("\x7f", "\\u007f").encode() + b"\n"


def read_report(path: str | Path, since: datetime | None = None) -> Iterator[Disagreement | None]:
    """The disagreements of a file in its order, None for a line that is none; raises ``ConfigError``."""
    try:
        with Path(path).open("rb") as file:
            for line in file:
                found = _read(line)
                if found is None or since is None or found.time >= _written(since):
                    yield found
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Name the file of shadow.report with --report."
        ) from None


def named(text: str | None) -> str | None:
    """A name as a line takes it: somebody else may have chosen it."""
    return None if text is None else text[:_LONGEST_NAME].encode(errors="replace").decode()


def _read(line: bytes) -> Disagreement | None:
    try:
        return msgspec.json.decode(line, type=Disagreement)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _written(since: datetime) -> str:
    aware: Any = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
    return str(aware.astimezone(UTC).isoformat(timespec="milliseconds"))
