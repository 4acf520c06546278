"""One segment being written: its file, its lock, its chain; every write is counted and every error ends it."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from proxy.audit.chain import KEY_BYTES, Chain, commitment
from proxy.audit.encode import encode
from proxy.audit.envelope import seal
from proxy.audit.records import KEY_SUFFIX, SUFFIX, VERSION, new_name, signed_line, unsigned_line

#: What the start key of a segment is sealed for, see ``envelope.seal``.
PURPOSE: Final = b"audit segment key"
#: A segment under this prefix has no durable header yet and is nobody's business.
UNBORN: Final = ".new-"
#: Sequence number and mac of a line.
Mark = tuple[int, str]
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Segment:
    """A segment that this process owns. Not thread-safe: ``Journal`` decides who may do what.

    The owner holds a lock (flock) on the file as long as it lives, so that others can tell a dead one's segment.
    """

    def __init__(self, directory: Path, name: str, descriptor: int, key: bytes) -> None:
        self.name = name
        self.path = directory / f"{name}{SUFFIX}"
        self.seq = 0
        self.size = 0
        #: The mark of the last line that is durable.
        self.durable: Mark = (-1, "")
        self._descriptor, self._begun = descriptor, _day()
        self._chain = Chain(key)

    @classmethod
    def create(
        cls, directory: Path, seal_to: X25519PublicKey | None, fields: Mapping[str, Any]
    ) -> Self:
        """Begin a segment; it has its name only when the header is durable. Raises ``OSError``."""
        name, key = new_name(), os.urandom(KEY_BYTES)
        unborn = directory / f"{UNBORN}{name}{SUFFIX}"
        descriptor = os.open(unborn, _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment = cls(directory, name, descriptor, key)
            if seal_to is None:
                _keep_key(directory / f"{name}{KEY_SUFFIX}", key)
            body = {**_header(name, key, seal_to), **fields}
            segment.write(segment.line("header", encode(body)))
            segment.sync(segment.mark())
            unborn.rename(segment.path)
            _sync_directory(directory)
        except BaseException:
            os.close(descriptor)
            for path in (unborn, directory / f"{name}{KEY_SUFFIX}", directory / f"{name}{SUFFIX}"):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise
        return segment

    def line(self, kind: str, body: bytes) -> bytes:
        """The next record, chained to the one before; it must be written next."""
        unsigned = unsigned_line(self.seq, kind, body)
        self.seq += 1
        return signed_line(unsigned, self._chain.seal(unsigned))

    def write(self, data: bytes) -> None:
        """Append whole lines; raises ``OSError``, after which this segment must not be written to any more."""
        try:
            write_whole(self._descriptor, data)
        except OSError:
            self._cut_back(data)
            raise
        self.size += len(data)

    def _cut_back(self, data: bytes) -> None:
        """Remove the piece of a line at the end; whole lines stay, a checkpoint may have seen them already."""
        with contextlib.suppress(OSError):
            there = os.fstat(self._descriptor).st_size - self.size
            if 0 < there < len(data):
                os.ftruncate(self._descriptor, self.size + max(0, data.rfind(b"\n", 0, there + 1)))

    def mark(self) -> Mark:
        """Where the chain is now."""
        return self.seq - 1, self._chain.mac.hex()

    def sync(self, mark: Mark) -> None:
        """Make everything written durable; ``mark`` is the last line of it. Raises ``OSError``, also if somebody
        removed or changed the file.

        After an error it is never tried again: the kernel may have dropped the pages it could not write, and the
        next call would report success (PostgreSQL's "fsyncgate", 2018).
        """
        os.fdatasync(self._descriptor)
        found = os.fstat(self._descriptor)
        if found.st_nlink == 0:
            raise OSError(errno.ESTALE, "the segment was removed while it was written")
        if found.st_size != self.size:
            raise OSError(errno.ESTALE, "the segment was changed by somebody else")
        self.durable = mark

    def displaced(self) -> bool:
        """Whether the file is no longer found under its name."""
        try:
            there = self.path.stat()
        except OSError:
            return True
        return there.st_ino != os.fstat(self._descriptor).st_ino

    def is_due(self, most_bytes: int) -> bool:
        """Whether it is full, or was begun on another day (UTC), so that retention has whole days to remove."""
        return self.size >= most_bytes or _day() != self._begun

    def release(self) -> None:
        """Forget the key and let go of the file."""
        unlock(self._descriptor)
        self.forget()

    def forget(self) -> None:
        """The same in a child after a fork, where the lock is the parent's."""
        self._chain.wipe()
        os.close(self._descriptor)


def _day() -> int:
    """Days since 1970 (UTC)."""
    return int(time.time() // 86400)


def unlock(descriptor: int) -> None:
    """Give a lock back; to close is not enough, since a child that was forked meanwhile may hold the same one."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def write_whole(descriptor: int, data: bytes) -> None:
    """One ``write``, and its count: a full disk may take a part only. Raises ``OSError``."""
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")


def _header(name: str, key: bytes, seal_to: X25519PublicKey | None) -> dict[str, Any]:
    bound = name.encode()
    sealed = seal(key, seal_to, purpose=PURPOSE, bound_to=bound) if seal_to is not None else None
    return {
        "version": VERSION,
        "segment": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _boot(),
        "key": commitment(key),
        "sealed": sealed,
    }


def _boot() -> str | None:
    """Monotonic times of the same boot can be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _keep_key(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, key.hex().encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_owned(path: Path) -> bool:
    """Whether the process that writes this segment is alive; nobody knows of one that is not there.

    Raises ``OSError`` if the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        unlock(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
