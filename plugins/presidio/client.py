"""A worker's view of the process that holds the model: started where it is missing, asked over a Unix socket."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from proxy import ConfigError, Unavailable

log = logging.getLogger("outgate.presidio")
Spans: TypeAlias = Sequence[tuple[int, int]]
_LENGTH = struct.Struct(">I")
_MOST = 64 * 1024 * 1024
#: Bytes of a Unix socket's path, on every system.
_LONGEST_PATH = 100
#: Seconds between two attempts to start it: one that cannot run is not started for each call.
_PAUSE = 5.0
_MODULE = "plugins.presidio.side"
#: None of the company's keys.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")


class Side:
    """The process for these ``settings``; safe to use from several threads, and after a fork."""

    def __init__(self, settings: Mapping[str, Any], directory: str | None, timeout: float) -> None:
        self._settings = json.dumps(settings)
        name = hashlib.sha256(self._settings.encode()).hexdigest()[:12]
        self.path = _folder(directory) / f"outgate-presidio-{name}.sock"
        if len(os.fsencode(self.path)) > _LONGEST_PATH:
            raise ConfigError(
                f"directory: {self.path} is too long for a socket: name a shorter one"
            )
        self._timeout = timeout
        self._lock = threading.Lock()
        self._tried = -_PAUSE
        self._presence: tuple[int, socket.socket] | None = None

    def found(self, text: str) -> dict[str, Spans]:
        """What is in ``text``, by entity; raises ``Unavailable`` while the process is away."""
        deadline = time.monotonic() + self._timeout
        try:
            with self._connected() as sock:
                send(sock, text)
                told = receive(sock, deadline)
        except (OSError, ValueError) as error:
            self.wake()
            log.warning("presidio: %s", error)
            raise Unavailable(
                "The search for personal data is not ready: try again later."
            ) from None
        return {entity: [(start, end) for start, end in spans] for entity, spans in told.items()}

    def wake(self) -> None:
        """Start the process where there is none, and do not wait for it."""
        with self._lock:
            if time.monotonic() - self._tried < _PAUSE or not self._is_missing():
                return
            self._tried = time.monotonic()
            child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                [sys.executable, "-P", "-m", _MODULE, str(self.path), self._settings],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
            # Whoever is not waited for stays as a zombie.
            threading.Thread(target=child.wait, daemon=True).start()

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self._timeout)
            sock.connect(str(self.path))
            self._stay()
        except BaseException:
            sock.close()
            raise
        return sock

    def _stay(self) -> None:
        """Hold one connection open while this worker lives: the process ends after the last of them."""
        with self._lock:
            pid, sock = self._presence or (0, None)
            if pid == os.getpid() and sock is not None and not _is_over(sock):
                return
            if sock is not None:
                sock.close()
            sock = socket.socket(socket.AF_UNIX)
            self._presence = os.getpid(), sock
            weakref.finalize(self, sock.close)
            sock.connect(str(self.path))

    def _is_missing(self) -> bool:
        with lock_file(self.path) as locked:
            return locked


@contextlib.contextmanager
def lock_file(path: Path, patience: float = 0) -> Iterator[bool]:
    """Whether nobody holds the lock beside the socket, which is the process's while it lives."""
    name, flags = path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o600)
    deadline = time.monotonic() + patience
    try:
        while not (locked := _is_locked(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield locked
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def send(sock: socket.socket, value: Any) -> None:
    """One message: its length and its JSON."""
    data = json.dumps(value).encode()
    sock.sendall(_LENGTH.pack(len(data)) + data)


def receive(sock: socket.socket, deadline: float | None = None) -> Any:
    """The next message; raises ``OSError`` or ``ValueError`` when there is none."""
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, deadline))
    if length > _MOST:
        raise ValueError("a message that is too large")
    return json.loads(_exactly(sock, length, deadline))


def _exactly(sock: socket.socket, count: int, deadline: float | None) -> bytes:
    data = b""
    while len(data) < count:
        if deadline is not None:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = sock.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise ConnectionResetError("it hung up")
        data += piece
    return data


def _is_over(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _folder(directory: str | None) -> Path:
    """Where the socket is: in ``directory``, else where this user keeps what need not last."""
    given = directory or os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given or Path(tempfile.gettempdir()) / f"outgate-{os.getuid()}")
    if not given:
        folder.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise ConfigError(f"directory {str(folder)!r}: there is no such directory: make it")
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to somebody else: set directory to one of your own")
    return folder
