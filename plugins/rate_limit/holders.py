"""Which processes are alive: each holds a lock on a file of its own, which the kernel takes from the dead."""

import fcntl
import os
import secrets
import weakref
from pathlib import Path
from typing import Final

_MARK: Final = "holder"


class Holder:
    """This process, for as long as it lives; ``name`` tells it from all others.

    No clock and no process id decides: a lock is gone the moment its process is, and is seen from every
    container that shares the folder.
    """

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        self._descriptor = -1
        while self._descriptor < 0:
            self.name = secrets.token_hex(8)
            self._descriptor = _locked(self._path(self.name), create=True)
        self._end = weakref.finalize(
            self, _leave, self._path(self.name), self._descriptor, os.getpid()
        )

    def is_alive(self, name: str) -> bool:
        """Whether the process that called itself ``name`` still runs; what the dead left is removed."""
        if name == self.name:
            return True
        try:
            descriptor = _locked(self._path(name))
        except FileNotFoundError:
            return False
        if descriptor < 0:
            return True
        _leave(self._path(name), descriptor, os.getpid())
        return False

    def touch(self) -> None:
        """Keep the file from those who remove what is old."""
        os.utime(self._descriptor)

    def _path(self, name: str) -> Path:
        return self._beside.with_name(f"{self._beside.name}-{_MARK}-{name}")


def _locked(path: Path, *, create: bool = False) -> int:
    """A descriptor that holds the lock of ``path``, or -1 when another has it or removed the file."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return -1


def _leave(path: Path, descriptor: int, process: int) -> None:
    """Remove the file; a fork of the process that it stands for only lets it go."""
    if process == os.getpid():
        path.unlink(missing_ok=True)
    os.close(descriptor)
