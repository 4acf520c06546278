"""The file of the shared counters, an LMDB: opened late, reopened after a fork or when it was removed.

Whoever has the lock of the file has all of it, so LMDB's own locks are off. A commit only adds to what the one before
left, and takes effect with its last write: who is killed at any instant leaves the file as it was. Nothing in it is
worth a disk's time, so nothing is synced.
"""

import fcntl
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Final

import lmdb
from lmdb.verify import VerifyError, verify

from plugins.rate_limit.holders import Holder

_PATIENCE: Final = (
    1.0  # seconds that a transaction waits for the others before it counts as an outage
)
_LOOK_AGAIN: Final = (
    1.0  # seconds after which the file is looked for anew: it may have been removed
)
_SWEEP: Final = 30.0  # seconds between two looks for what nobody needs any more
_SWEPT: Final = 1000  # records that are looked at then, so that nobody waits long
#: Bytes that the file may have, enough for half a million counters. It takes no more than it needs.
MOST: Final = 2**30
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_SQLITE: Final = b"SQLite format 3\0"
#: Of the clock: the form of all records, and the offset; the name of the boot follows.
_CLOCK: Final = b"clock"
_FORM: Final = 1
_OFFSET: Final = Struct("=Bd")
#: Every other record begins with the time until when it is needed, and its key sorts behind that of the clock.
UNTIL: Final = Struct("=d")
_FIRST: Final = b"d"


class _Opened:
    """The file under a descriptor that takes its lock, and LMDB's view of it.

    The lock is that of the file itself: who removes a file beside it cannot set two writers on it.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        os.fchmod(self.descriptor, 0o600)
        found = os.fstat(self.descriptor)
        self._file, self._size = (found.st_dev, found.st_ino), 0
        self._path = path
        self._looked = float("-inf")
        self.environment: lmdb.Environment | None = None
        self.offset = 0.0

    def lock(self) -> None:
        """Wait for the others, but not for long."""
        if self._is_locked():
            return
        deadline, pause = time.monotonic() + _PATIENCE, 0.0001
        while not self._is_locked():
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has kept it locked for {_PATIENCE:g} s")
            time.sleep(pause)
            pause = min(0.002, pause * 1.5)

    def _is_locked(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Let the others go on."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_current(self) -> bool:
        """Whether this is the file at the path still, and nobody cut it: what is mapped must be there."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return True
        self._looked = now
        return self._is_there()

    def _is_there(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        size, self._size = self._size, found.st_size
        return (found.st_dev, found.st_ino) == self._file and found.st_size >= size

    def prepared(self, most: int) -> lmdb.Environment:
        """What LMDB makes of the file, which trusts all that it reads; at first a clock is agreed on."""
        if self.environment is None:
            self._check()
            self.environment = lmdb.open(
                os.fspath(self._path), map_size=most, subdir=False, lock=False, sync=False, metasync=False,
                readahead=False,
            )  # fmt: skip
            if not self._is_there():
                raise FileNotFoundError("it was replaced while it was opened")
            with self.environment.begin(write=True) as records:
                self.offset = _anchored(records)
        return self.environment

    def _check(self) -> None:
        if not os.fstat(self.descriptor).st_size:
            return
        try:
            faults = verify(self._path, subdir=False)
        except VerifyError as error:
            faults = [str(error)]
        if faults:
            raise lmdb.CorruptedError(f"it is damaged, or of another kind: {faults[0]}")

    def close(self) -> None:
        """Close both; in a fork this does not disturb the parent."""
        if self.environment is not None:
            self.environment.close()
        self._close()


def is_sqlite(path: Path) -> bool:
    """Whether the file is one in which earlier versions kept the counters."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
    return False


def _anchored(records: "lmdb.Transaction[bytes]") -> float:
    """What to add to the monotonic clock: the same in every process, and no jump of the wall clock moves it.

    It is taken from the wall clock once a boot, so that a day's limit outlives a restart of the machine.
    """
    boot = _BOOT.read_bytes().strip() if _BOOT.exists() else b""
    kept = records.get(_CLOCK)
    if (kept is None and records.stat()["entries"]) or (kept is not None and kept[0] != _FORM):
        raise lmdb.InvalidError("something else is in it: name another file, or remove it")
    if kept is not None and kept[_OFFSET.size :] == boot:
        return float(_OFFSET.unpack_from(kept)[1])
    offset = time.time() - time.monotonic()
    records.put(_CLOCK, _OFFSET.pack(_FORM, offset) + boot)
    return offset


class Database:
    """The file at ``path``, for all threads: ``with database as now`` is a transaction, of ``records``.

    LMDB allows one for each file and process: see ``at``. It and its methods raise ``lmdb.Error`` or ``OSError``.
    """

    records: "lmdb.Transaction[bytes]"

    def __init__(self, path: Path, most: int = MOST) -> None:
        self._path = path
        self._most = most
        self._opened: _Opened | None = None
        self._next = _FIRST
        self._swept = -_SWEEP
        self.begin_anew()

    @staticmethod
    def at(path: Path) -> "Database":
        """That of all in this process who use the file."""
        name = os.path.realpath(path)
        with _registering:
            found = _databases.get(name)
            if found is None:
                found = _databases[name] = Database(Path(name))
            return found

    def begin_anew(self) -> None:
        """Leave what a fork inherited to the parent, with the locks that its threads had."""
        self._lock = threading.Lock()
        self._holder: Holder | None = None
        self._forget()

    @property
    def holder(self) -> Holder:
        """This process, as the others see it; one for as long as it lives, whatever becomes of the file."""
        if self._holder is None:
            self._holder = Holder(self._path)
        return self._holder

    def __enter__(self) -> float:
        """Begin a transaction that alone may read and write; its time, in seconds."""
        self._lock.acquire()
        try:
            opened = self._locked()
            environment = opened.environment or opened.prepared(self._most)
            now = time.monotonic()
            if now - self._swept >= _SWEEP:
                self._swept = now
                self._sweep(environment, now + opened.offset)
            self.records = environment.begin(write=True)
        except BaseException:
            self._forget()
            self._lock.release()
            raise
        return now + opened.offset

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Commit, or undo everything when something raised."""
        try:
            if error is not None:
                self._forget()
            elif self._opened is not None:
                self.records.commit()
                self._opened.unlock()
        except BaseException:
            self._forget()
            raise
        finally:
            self._lock.release()

    def _locked(self) -> _Opened:
        """The open file, locked; opened anew when it is no longer the one at its path."""
        while True:
            opened = self._opened
            if opened is None:
                opened = self._opened = _Opened(self._path)
            opened.lock()
            if opened.is_current():
                return opened
            self._forget()

    def _forget(self) -> None:
        """Close the file; a transaction that was under way is undone by that."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _sweep(self, environment: lmdb.Environment, now: float) -> None:
        """Remove what nobody needs any more, from where the last sweep ended."""
        with environment.begin(write=True) as records, records.cursor() as cursor:
            cursor.set_range(self._next)
            for _ in range(_SWEPT):
                if not cursor.key():
                    break
                if UNTIL.unpack_from(cursor.value())[0] < now:
                    cursor.delete()
                else:
                    cursor.next()
            self._next = cursor.key() or _FIRST
        self.holder.touch()


_databases: Final[weakref.WeakValueDictionary[str, Database]] = weakref.WeakValueDictionary()
_registering: Final = threading.Lock()


def _forked() -> None:
    for database in list(_databases.values()):
        database.begin_anew()


os.register_at_fork(after_in_child=_forked)
