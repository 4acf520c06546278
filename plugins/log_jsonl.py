"""One JSON line for each call, to standard output or to a file."""

import os
import stat
import sys
import threading
import time
from dataclasses import dataclass, field

from proxy import ConfigError, Record, hookimpl, record_line

_REOPEN_AFTER = 1.0  # seconds after which the file is opened anew, since it may have been renamed


@dataclass(frozen=True)
class LogJsonl:
    """``path`` is the file (created with mode 0600, appended to); without it the lines go to standard output.

    A line is ASCII and one ``write``; a short write is an error, so that ``required = true`` means what it
    says. A line that was cut (disk full, process killed) never swallows the next one, and a file that was
    renamed or removed is made anew within a second.
    """

    path: str | None = None
    _file: "_File | None" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A path that cannot be written stops the start."""
        try:
            file = _File(self.path) if self.path is not None else None
        except OSError as error:
            raise ConfigError(
                f"path {self.path!r}: {error.strerror}. Name a file this user may read and write."
            ) from None
        object.__setattr__(self, "_file", file)

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        """Write the record; raises ``OSError`` when not all of it was written."""
        line = record_line(record)
        if self._file is None:
            _write(sys.stdout.fileno(), line)
        else:
            self._file.append(line)


class _File:
    """A file that the threads of a process, and several processes, append to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open()

    def append(self, line: bytes) -> None:
        with self._lock:
            self._follow()
            # Whoever wrote before may have been killed, or have met a full disk, in the middle of a line,
            # and swallowed this one. To look afterwards is the one way that needs no lock between processes.
            if not self._stands_alone(line):
                _write(self._descriptor, line)

    def _stands_alone(self, line: bytes) -> bool:
        """Write a line; whether it began where a line begins."""
        _write(self._descriptor, line)
        if not self._regular:
            return True
        start = os.lseek(self._descriptor, 0, os.SEEK_CUR) - len(line)
        return start == 0 or os.pread(self._descriptor, 1, start - 1) == b"\n"

    def _follow(self) -> None:
        """Open the file anew after a fork (the position would be shared), or if it was renamed or removed."""
        if self._pid == os.getpid() and time.monotonic() - self._opened < _REOPEN_AFTER:
            return
        stale = self._descriptor
        self._open()
        os.close(stale)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._pid, self._opened = os.getpid(), time.monotonic()


def _write(descriptor: int, line: bytes) -> None:
    written = os.write(descriptor, line)
    if written != len(line):
        raise OSError(f"only {written} of {len(line)} bytes were written")
