"""One JSON line for each call, to standard output or to a file."""

import os
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy import ConfigError, Record, hookimpl


@dataclass(frozen=True)
class LogJsonl:
    """``path`` is the file (created with mode 0600, appended to); without it the lines go to standard output.

    A line is one ``write``, begun after a newline if the one before it was cut, and a short write is an
    error, so that ``required = true`` means what it says.
    """

    path: str | None = None
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)
    _open: dict[int, int] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """A path that cannot be written stops the start."""
        if self.path is not None:
            try:
                os.close(self._opened(self.path))
            except OSError as error:
                raise ConfigError(
                    f"path {self.path!r}: {error.strerror}. Name a file this user may write."
                ) from None

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        """Write the record; control characters and line separators are escaped, so a line stays a line."""
        line = _ascii(msgspec.json.encode(record)) + b"\n"
        with self._lock:
            written = os.write(self._descriptor(), line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written")

    def _descriptor(self) -> int:
        """This process's descriptor: one that was opened before a fork would be shared with the parent."""
        if self.path is None:
            return sys.stdout.fileno()
        pid = os.getpid()
        if pid not in self._open:
            self._open[pid] = self._opened(self.path)
        return self._open[pid]

    @staticmethod
    def _opened(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _ascii(data: bytes) -> bytes:
    if data.isascii():
        return data
    text: Any = data.decode()
    return "".join(char if char.isascii() else _escaped(char) for char in text).encode()


def _escaped(char: str) -> str:
    """``char`` as JSON escapes it: one unit of UTF-16 or a surrogate pair (RFC 8259 section 7)."""
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
