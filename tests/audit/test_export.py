"""Checkpoints arrive where they are sent, wait while that is down, and never wait without end."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme

from proxy import Secret
from proxy.audit import ExportEntry
from proxy.audit.checkpoint import CheckpointLog, Stored
from proxy.audit.export import Exporter, Exporters, sender
from tests.audit.material import Place


@pytest.fixture
def stored(place: Place) -> Stored:
    return CheckpointLog(place.directory, place.signer).append("checkpoint", [])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        server = self.server
        assert isinstance(server, Collector)
        server.received.append((self.path, self.headers["authorization"], self.rfile.read(length)))
        self.send_response(server.status)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[tuple[str, str | None, bytes]] = []
        self.status = 200


@contextmanager
def collecting(context: ssl.SSLContext | None = None) -> Iterator[tuple[Collector, int]]:
    server = Collector()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server, server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_gets_a_line_for_each(stored: Stored, tmp_path: Path) -> None:
    path = tmp_path / "out"
    exporters = Exporters((ExportEntry(file=str(path)),))
    exporters.put(stored)
    exporters.put(stored)
    exporters.pump()
    assert path.read_bytes() == (b"\n" + stored.line) * 2


def test_a_url_gets_it_with_the_token(stored: Stored, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with collecting(context) as (server, port):
        url = f"https://127.0.0.1:{port}/in?x=1"
        entry = ExportEntry(
            url=url, token=Secret("t0ken-value"), ca_bundle=str(tmp_path / "ca.pem")
        )
        sender(entry)(stored.line)
        with pytest.raises(ssl.SSLError):
            sender(ExportEntry(url=url))(stored.line)
    assert server.received == [("/in?x=1", "Bearer t0ken-value", stored.line)]


@pytest.mark.parametrize("status", [307, 404, 500])
def test_an_answer_that_is_no_success_is_a_failure_and_it_is_sent_again(
    stored: Stored, status: int
) -> None:
    with collecting() as (server, port):
        entry = ExportEntry(url=f"http://127.0.0.1:{port}")
        exporter = Exporter(entry.label, sender(entry))
        server.status = status
        exporter.put(stored.line)
        exporter.pump()
        exporter.pump()  # not yet: it waits after a failure
        assert exporter.failures == 1
        server.status = 204
        exporter.pump(at_once=True)
    assert [path for path, _, _ in server.received] == ["/", "/"]


def test_syslog_gets_rfc_5424_by_udp(stored: Stored) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        sender(ExportEntry(syslog=f"127.0.0.1:{server.getsockname()[1]}"))(stored.line)
        message = server.recv(65536)
    head, _, line = message.partition(b"{")
    assert head.startswith(b"<109>1 ")
    assert head.split()[3] == b"outgate"
    assert b"{" + line == stored.line


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_syslog_counts_octets_on_a_connection(
    stored: Stored, transport: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    got: list[bytes] = []

    def serve(server: socket.socket) -> None:
        sock, _ = server.accept()
        with (
            sock,
            context.wrap_socket(sock, server_side=True) if transport == "tls" else sock as end,
        ):
            while piece := end.recv(4096):
                got.append(piece)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        target = f"{transport}://localhost:{server.getsockname()[1]}"
        sender(ExportEntry(syslog=target, ca_bundle=str(tmp_path / "ca.pem")))(stored.line)
        thread.join()
    length, _, message = b"".join(got).partition(b" ")
    assert int(length) == len(message)
    assert json.loads(message[message.index(b"{") :])["number"] == 1


def test_a_queue_has_an_end_and_the_oldest_goes(stored: Stored) -> None:
    def down(line: bytes) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    exporter = Exporter("nowhere", down)
    for _ in range(1005):
        exporter.put(stored.line)
    assert exporter.dropped == 5
    exporter.pump()
    assert exporter.failures == 1
