"""The format of a segment, and the readers of segments and directories; nothing here needs a key.

A segment is one file that one process appends to. Every record is a line feed and one JSON object in ASCII::

    {"seq":7,"time":"2026-08-01T12:00:00.123456+00:00","mono":81.5,"kind":"intent","body":{…},"mac":"64 hex digits"}

The ``mac`` is over the bytes before ``,"mac":``, as they stand in the file: nothing has to be written again in the
same way to be checked. The last line has no line feed after it; that it is whole shows in its JSON.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

import msgspec
from msgspec import Struct

VERSION: Final = 1
SUFFIX: Final = ".jsonl"
#: Files beside the segments: the signed checkpoints, and the start keys of segments that are sealed to nobody.
CHECKPOINTS: Final = "checkpoints.jsonl"
KEY_SUFFIX: Final = ".key"
#: The longest line a reader takes; a longer one is broken.
LONGEST_LINE: Final = 64 * 1024 * 1024

Kind = Literal[
    "header",
    "intent",
    "outcome",
    "recovered",
    "closed_for",
    "abandoned",
    "checkpointed",
    "pruned",
    "closed",
]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_MAC: Final = re.compile(rb',"mac":"([0-9a-f]{64})"\}$')
_HEAD: Final = re.compile(rb'\{"seq":\d+,"time":"[^"]*","mono":[0-9.e+-]+,"kind":"([a-z_]+)",')
_NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z_[a-z0-9.-]{1,40}_\d+_[0-9a-f]{8}")


class Entry(Struct, frozen=True, kw_only=True):
    """One record as it stands in its segment.

    ``line`` counts from 1 (the header is on line 2, since a line feed comes before each record); ``start`` and
    ``end`` are the bytes of the JSON object; ``signed`` is what the ``mac`` is over. ``mono`` is in seconds of the
    machine's monotonic clock.
    """

    segment: str
    line: int
    start: int
    end: int
    seq: int
    time: str
    mono: float
    kind: str
    body: dict[str, Any]
    mac: str
    signed: bytes


class Broken(Struct, frozen=True, kw_only=True):
    """A line that is no record. ``last`` tells that nothing follows: a write that was cut looks like this."""

    segment: str
    line: int
    start: int
    end: int
    why: str
    last: bool


class _Members(Struct, forbid_unknown_fields=True):
    seq: int
    time: str
    mono: float
    kind: str
    body: dict[str, Any]
    mac: str


_decoder: Final = msgspec.json.Decoder(_Members)


def new_name(at: datetime | None = None) -> str:
    """A name for a segment: sorts by time, and tells host and process."""
    at = at or datetime.now(UTC)
    host = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower())[:40] or "host"
    return f"{at:%Y%m%dT%H%M%S.%fZ}_{host}_{os.getpid()}_{os.urandom(4).hex()}"


def is_name(text: str) -> bool:
    """Whether a text can be the name of a segment."""
    if _NAME.fullmatch(text) is None:
        return False
    try:
        begun(text)
    except ValueError:
        return False
    return True


def begun(name: str) -> datetime:
    """When the segment of this name was begun, by the clock of its process."""
    return datetime.strptime(name.partition("_")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def segments(directory: str | Path) -> list[Path]:
    """The segments of a directory in the order in which they were begun; raises ``OSError``."""
    with os.scandir(directory) as found:
        names = sorted(item.name for item in found if item.name.endswith(SUFFIX))
    return [Path(directory, name) for name in names if is_name(name.removesuffix(SUFFIX))]


def now() -> tuple[str, float]:
    """Wall clock (ISO 8601, UTC, microseconds) and monotonic clock (seconds)."""
    return datetime.now(UTC).isoformat(timespec="microseconds"), round(time.monotonic(), 6)


def unsigned_line(seq: int, kind: str, body: bytes) -> bytes:
    """The part of a line that its mac is over; ``body`` is JSON already."""
    wall, mono = now()
    head = f'{{"seq":{seq},"time":"{wall}","mono":{mono!r},"kind":"{kind}","body":'
    return head.encode() + body


def signed_line(unsigned: bytes, mac: bytes) -> bytes:
    """The record as it is written, with its line feed before it."""
    return b'\n%b,"mac":"%b"}' % (unsigned, mac.hex().encode())


def parse(raw: bytes) -> tuple[_Members, bytes]:
    """The members of a line and the bytes that its mac is over; raises ``ValueError`` saying what is wrong."""
    found = _MAC.search(raw)
    if found is None:
        raise ValueError("it does not end with a mac")
    try:
        members = _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("it is no JSON object with the members of a record") from None
    if members.mac != found[1].decode():
        raise ValueError("it has two macs")
    if members.kind not in KINDS:
        raise ValueError(f"its kind {members.kind!r} is unknown")
    return members, raw[: found.start()]


def read_segment(
    path: str | Path, start: int = 0, line: int = 1, kinds: Iterable[str] = ()
) -> Iterator[Entry | Broken]:
    """Every line of a segment that is not empty; memory holds one at a time. Raises ``OSError``.

    To go on in a segment that has grown, give the ``end`` and ``line`` of its last ``Entry``. With ``kinds``, lines
    that say they are of another kind are skipped unread, which is much faster.
    """
    name = Path(path).name.removesuffix(SUFFIX)
    wanted = frozenset(kind.encode() for kind in kinds)
    with Path(path).open("rb") as file:
        file.seek(start)
        for number, begin, raw in _lines(file, start, line):
            if raw.strip(b"\n") and (not wanted or _kind(raw) in wanted):
                yield _read(name, number, begin, raw)


def _kind(raw: bytes) -> bytes | None:
    found = _HEAD.match(raw)
    return found[1] if found is not None else None


def _lines(file: BinaryIO, start: int, number: int) -> Iterator[tuple[int, int, bytes]]:
    while raw := file.readline(LONGEST_LINE):
        yield number, start, raw
        start += len(raw)
        number += 1


def _read(name: str, number: int, begin: int, raw: bytes) -> Entry | Broken:
    text = raw.removesuffix(b"\n")
    end = begin + len(text)
    try:
        found, signed = parse(text)
    except ValueError as error:
        last = len(text) == len(raw)
        return Broken(segment=name, line=number, start=begin, end=end, why=str(error), last=last)
    return Entry(
        segment=name,
        line=number,
        start=begin,
        end=end,
        seq=found.seq,
        time=found.time,
        mono=found.mono,
        kind=found.kind,
        body=found.body,
        mac=found.mac,
        signed=signed,
    )


def read_directory(
    directory: str | Path, kinds: Iterable[str] = (), since: datetime | None = None
) -> Iterator[Entry]:
    """The whole records of all segments, one segment after the other; broken lines are left out.

    With ``since``, segments whose files were not written to after it are skipped. Raises ``OSError``.
    """
    wanted = tuple(kinds)
    for path in segments(directory):
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            if since is not None and path.stat().st_mtime < since.timestamp():
                continue
            for entry in read_segment(path, kinds=wanted):
                if isinstance(entry, Entry):
                    yield entry


def header(path: str | Path) -> Mapping[str, Any] | None:
    """The body of a segment's header, or nothing if it has none that can be read."""
    first = next(read_segment(path), None)
    return first.body if isinstance(first, Entry) and first.kind == "header" else None
