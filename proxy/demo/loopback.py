"""Serves a WSGI application from a thread of this process: HTTP/1.1, keep-alive, no buffering."""

import io
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_Head = tuple[str, list[tuple[str, str]]]


class _Handler(WSGIRequestHandler):
    """Answers every request of a connection; each piece of a stream leaves at once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        environ = self._environ()
        heads: list[_Head] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            heads.append((status, headers))

        pieces = self.server.app(environ, start_response)
        try:
            rest = iter(pieces)
            # An application may call start_response as late as with its first piece.
            first = next(rest, b"")
            framed = self._begin(*heads[-1])
            if self.command != "HEAD":
                self._send(chain([first], rest), framed=framed)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _environ(self) -> dict[str, Any]:
        """The request with its whole body read, so that the next one begins where it should."""
        environ = self.make_environ()
        dechunked = environ.pop("wsgi.input_terminated", False)
        size = -1 if dechunked else int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}

    def _begin(self, status: str, headers: list[tuple[str, str]]) -> bool:
        """Sends the head; whether the body is to be framed in chunks."""
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        framed = not any(name.lower() == "content-length" for name, _ in headers)
        if framed:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        return framed

    def _send(self, pieces: Iterable[bytes], *, framed: bool) -> None:
        for piece in filter(None, pieces):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framed else piece)
        if framed:
            self.wfile.write(b"0\r\n\r\n")

    def log(self, *_: Any, **__: Any) -> None:
        """Nothing: what was received is what the application remembers."""


class _Server(ThreadedWSGIServer):
    """Knows its open connections, so that it can end them, and their threads, when it closes."""

    daemon_threads = False

    def __init__(self, app: "WSGIApplication") -> None:
        self._open: set[socket.socket] = set()
        super().__init__("127.0.0.1", 0, app, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


@contextmanager
def running(app: "WSGIApplication") -> Iterator[str]:
    """Serves `app` on a free port of 127.0.0.1 and gives its base URL, `http://127.0.0.1:PORT`.

    On leaving, open connections are cut and their threads joined.
    """
    server = _Server(app)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
