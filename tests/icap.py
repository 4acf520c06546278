"""ICAP servers on loopback: the real c-icap, and one that answers as a test tells it to, faults included.

with ScriptedIcap(no_change(), blocked(), options=told(preview=4)) as server:
    ...  # the first message passes, every later one is refused
assert server.asked[0].body == b"..."
"""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import pytest

from tests.ports import free_port

PATIENCE: Final = 30.0
MODULES: Final = Path("/usr/lib/x86_64-linux-gnu/c_icap")
_FILTER: Final = MODULES / "srv_content_filtering.so"
_CONFIG: Final = """
PidFile {folder}/c-icap.pid
CommandsSocket {folder}/c-icap.ctl
Port 127.0.0.1:{port}
StartServers 1
MaxServers 1
ThreadsPerChild 8
TmpDir {folder}
MaxMemObject 131072
ModulesDir {modules}
ServicesDir {modules}
TemplateDir /usr/share/c_icap/templates/
TemplateDefaultLanguage en
LoadMagicFile /etc/c-icap/c-icap.magic
ServerLog {folder}/server.log
AccessLog {folder}/access.log
Service echo srv_echo.so
"""
_RULES: Final = """
Service filter srv_content_filtering.so
srv_content_filtering.Match Codename body /project.bluebird/i score=20
srv_content_filtering.Match Nickname body /nightingale/i score=10 info{NAME}="[name]"
srv_content_filtering.Profile default block score{Codename>5}
srv_content_filtering.Profile default replace score{Nickname>5} replaceInfo=NAME
"""


@contextlib.contextmanager
def c_icap(folder: Path) -> Iterator[str]:
    """A running c-icap with its echo service, and its content filter; skips where one is not installed."""
    program = shutil.which("c-icap")
    if program is None or not _FILTER.is_file():
        pytest.skip("c-icap is not installed: apt-get install libc-icap-mod-contentfiltering")
    port = free_port()
    config = folder / "c-icap.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, modules=MODULES) + _RULES)
    output = (folder / "output").open("wb")
    with (
        output,
        subprocess.Popen(
            [program, "-N", "-f", str(config)], stdout=output, stderr=output
        ) as server,
    ):
        try:
            _wait_for(port, server)
            yield f"icap://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"OPTIONS icap://127.0.0.1/echo ICAP/1.0\r\nHost: here\r\n\r\n")
            if sock.recv(8) == b"ICAP/1.0":
                return
        time.sleep(0.05)
    raise AssertionError("c-icap does not answer")


@dataclass
class Asked:
    """One message as it came; ``fields`` have lower-case names."""

    method: str
    url: str
    fields: dict[str, str]
    heads: list[str]
    body: bytes
    is_whole: bool
    connection: int
    file: BinaryIO = field(repr=False)

    def read_rest(self) -> None:
        """Read what follows the preview."""
        body, _ = _chunks(self.file)
        self.body += body


Script = Callable[[socket.socket, Asked], None]


class HangUp(Exception):
    """Ends a connection."""


class ScriptedIcap:
    """The n-th message is answered by the n-th script, later ones by the last; OPTIONS by ``options``."""

    def __init__(
        self,
        *scripts: Script,
        options: Script | None = None,
        context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._scripts = scripts or (no_change(),)
        self._options = options or told()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.url = f"{'icaps' if context else 'icap'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[Asked] = []
        self.options = 0
        self.connections = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End every connection; new ones are taken."""
        while self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._open.pop(), socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        # What cannot be read was no ICAP, as a greeting of TLS.
        with contextlib.suppress(OSError, HangUp, ValueError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if self._context is not None:
                sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
            self._open.append(sock)
            file: Any = stack.enter_context(sock.makefile("rb"))
            while asked := _read(file, number):
                if asked.method == "OPTIONS":
                    self.options += 1
                    self._options(sock, asked)
                    continue
                with self._lock:
                    self.asked.append(asked)
                    script = self._scripts[min(len(self.asked), len(self._scripts)) - 1]
                script(sock, asked)


def _read(file: BinaryIO, number: int) -> Asked | None:
    line = file.readline()
    if not line:
        return None
    method, url, _ = line.decode().split()
    fields = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    parts = [part.split("=") for part in fields.get("encapsulated", "null-body=0").split(", ")]
    starts = [int(start) for _, start in parts]
    heads = [file.read(end - start).decode() for start, end in pairwise(starts)]
    body, is_whole = (b"", True) if parts[-1][0] == "null-body" else _chunks(file)
    is_whole = is_whole or "preview" not in fields
    return Asked(method, url, fields, heads, body, is_whole, number, file)


def _chunks(file: BinaryIO) -> tuple[bytes, bool]:
    """A chunked body, and whether it says that it is all."""
    body = b""
    while size := int((line := file.readline()).split(b";")[0], 16):
        body += file.read(size)
        file.readline()
    file.readline()
    return body, b"ieof" in line


def told(**fields: object) -> Script:
    """What a service says of itself; fields with ``_`` for ``-``."""
    known = {"Methods": "REQMOD, RESPMOD", "ISTag": '"one"', "Allow": "204"}
    return answer(
        200, {**known, **{name.replace("_", "-"): str(value) for name, value in fields.items()}}
    )


def answer(status: int, fields: dict[str, str] | None = None, rest: bytes = b"") -> Script:
    """One whole answer, sent at once."""
    lines = [
        f"ICAP/1.0 {status} Scripted",
        *(f"{name}: {value}" for name, value in (fields or {}).items()),
    ]
    return raw("\r\n".join([*lines, "", ""]).encode() + rest, keep=True)


def raw(data: bytes, *, keep: bool = False) -> Script:
    """Exactly these bytes, then the end of the connection unless ``keep``."""

    def play(sock: socket.socket, _: Asked) -> None:
        sock.sendall(data)
        if not keep:
            raise HangUp

    return play


def no_change(tag: str = '"one"') -> Script:
    return answer(204, {"ISTag": tag})


def blocked(page: bytes = b"blocked: project bluebird") -> Script:
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n"
    fields = {
        "ISTag": '"one"',
        "X-Violations-Found": "1",
        "Encapsulated": f"res-hdr=0, res-body={len(head)}",
    }
    return answer(200, fields, head + chunks(page))


def chunks(body: bytes, size: int = 7) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


def sent_back(change: Callable[[bytes], bytes] = bytes, head: Callable[[str], str] = str) -> Script:
    """The message that came, in an answer 200, perhaps changed."""

    def play(sock: socket.socket, asked: Asked) -> None:
        kind = "req" if asked.method == "REQMOD" else "res"
        first = head(asked.heads[-1]).encode()
        fields = {"ISTag": '"one"', "Encapsulated": f"{kind}-hdr=0, {kind}-body={len(first)}"}
        answer(200, fields, first + chunks(change(asked.body)))(sock, asked)

    return play


def silent() -> Script:
    """Nothing, until the other side hangs up."""

    def play(sock: socket.socket, _: Asked) -> None:
        while sock.recv(65536):
            pass
        raise HangUp

    return play
