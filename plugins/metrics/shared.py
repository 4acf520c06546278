"""The directory in which the worker processes of one service keep their counts, and which of them are alive."""

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from proxy import ConfigError

#: Named by Outgate's gunicorn settings: goes with the main process.
_RUN = "OUTGATE_RUN_DIRECTORY"
_PREFIX = "outgate-metrics-"
#: The library's files: what is added up for ever, and what counts while a process lives.
_LASTING = ("counter", "histogram")
_KINDS = (*_LASTING, "gauge_livesum", "gauge_livemax")
_ROOM = 1 << 20  # bytes of a file: some four thousand labelled counts
_ABANDONED_AFTER = 60.0  # seconds, so that one that is just being made is left alone


class Shared:
    """``path`` belongs to one run of the service, so nothing of an earlier one is ever added up.

    Every process holds a lock on a file of its own: the one sign of life that a kill takes away too, and that
    a later process of the same number does not give back.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._sign = os.open(
            path / f"{os.getpid()}.alive", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._sign, fcntl.LOCK_EX)
        for kind in _KINDS:
            _reserve(path / f"{kind}_{os.getpid()}.db")

    @classmethod
    def opened(cls, path: Path) -> Self:
        """The directory, made if it is missing; raises ``ConfigError`` when it cannot be used."""
        try:
            found = cls(path)
            _clear(path.parent, path)
        except OSError as error:
            raise ConfigError(
                f"directory {str(path.parent)!r}: {error.strerror}. Name one this user may write."
            ) from None
        return found

    def bury(self) -> None:
        """Add the counts of processes that died to those of the dead, and forget how they were."""
        signs = [sign for sign in self.path.glob("*.alive") if sign.stem != str(os.getpid())]
        if not any(map(_is_free, signs)):
            return
        with self.locked(fcntl.LOCK_EX):
            for sign in filter(_is_free, signs):
                for kind in _KINDS:
                    own = self.path / f"{kind}_{sign.stem}.db"
                    if kind in _LASTING and own.exists():
                        _add(own, self.path / f"{kind}_dead.db")
                    own.unlink(missing_ok=True)
                sign.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, how: int = fcntl.LOCK_SH) -> Iterator[None]:
        """While the files are read, none is moved from one place to another."""
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, how)
            yield


def _reserve(path: Path) -> None:
    """Take the space before it is mapped: a full disk is an error here, and the end of the process later."""
    with path.open("ab") as file:
        if file.tell() < _ROOM and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _ROOM)


def _add(source: Path, target: Path) -> None:
    """Add the counts in one file to those in another."""
    from prometheus_client.mmap_dict import MmapedDict

    total: Any = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    try:
        counts: Any = MmapedDict.read_all_values_from_file(str(source))  # type: ignore[no-untyped-call]
        for key, value, *_ in counts:
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
    finally:
        total.close()


def place(directory: str | None) -> Path | None:
    """Where the counts of this service are to be; None for a process that serves by itself."""
    run = os.environ.get(_RUN)
    if directory is not None:
        return Path(directory, _PREFIX + (Path(run).name if run else f"parent-{os.getppid()}"))
    return Path(run, "metrics") if run is not None else None


def count_together(path: Path) -> None:
    """Have the library keep its counts in files; nothing is made yet.

    It decides once, when it is loaded. Raises ``ConfigError`` when that was for a process by itself.
    """
    early = "prometheus_client" not in sys.modules
    if early:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)
    from prometheus_client import values

    if not getattr(values.ValueClass, "_multiprocess", False):
        raise ConfigError(
            "another plugin loaded prometheus_client first, so the processes cannot be added up:"
            " list metrics before it"
        )
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)


def _is_free(sign: Path) -> bool:
    """Whether nobody holds the lock on a file that is still there."""
    try:
        descriptor = os.open(sign, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _clear(base: Path, own: Path) -> None:
    """Remove what services left behind that were killed."""
    for other in base.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            old = time.time() - other.stat().st_mtime > _ABANDONED_AFTER
            if other != own and old and all(map(_is_free, other.glob("*.alive"))):
                shutil.rmtree(other)
