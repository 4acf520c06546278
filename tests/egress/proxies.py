"""HTTP proxies on loopback, such as companies have on their way out."""

import base64
import contextlib
import socket
import threading

from tests.egress.servers import Script, ok


def tunnel(user: str = "", password: str = "") -> Script:
    """An HTTP proxy: answers CONNECT and then passes bytes on; plain requests it answers itself.

    With ``user`` it wants to see Basic credentials.
    """
    wanted = base64.b64encode(f"{user}:{password}".encode())

    def script(sock: socket.socket, request: bytes) -> None:
        method, target, _ = request.split(b" ", 2)
        if user and b"Proxy-Authorization: Basic " + wanted + b"\r\n" not in request:
            sock.sendall(
                b"HTTP/1.1 407 Who are you, hunter2?\r\nProxy-Authenticate: Basic realm=x\r\n"
                b"Content-Length: 0\r\n\r\n"
            )
            return
        if method != b"CONNECT":
            sock.sendall(ok(b"by proxy"))
            return
        host, _, port = target.rpartition(b":")
        with socket.create_connection((host.decode(), int(port))) as other:
            sock.sendall(b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n")
            threading.Thread(target=pump, args=(other, sock), daemon=True).start()
            pump(sock, other)
        raise ConnectionAbortedError

    return script


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
