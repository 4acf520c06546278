"""The servers that the other end-to-end tests trust, and what nginx says by itself."""

import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.stack import (
    NGINX,
    ROOT,
    configuration,
    nginx_configuration,
    running,
    running_nginx,
)
from tests.ports import free_address

SHIPPED = (ROOT / "deploy" / "nginx.conf").read_text()


def test_the_two_addresses_of_the_shipped_nginx_configuration_are_replaced() -> None:
    text = nginx_configuration(SHIPPED, "127.0.0.1:1", "127.0.0.1:2")
    directives = [line.split("#")[0].strip() for line in text.splitlines()]
    assert "listen     127.0.0.1:1 default_server;" in directives
    assert "server 127.0.0.1:2 max_fails=0;" in directives
    assert not any(":8080" in line or ":8000" in line for line in directives)


@pytest.mark.parametrize("address", ["127.0.0.1:8080 ", "127.0.0.1:8000 "])
def test_a_configuration_without_one_of_them_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=address.strip()):
        nginx_configuration(SHIPPED.replace(address, "elsewhere "), "a", "b")


def test_the_shipped_nginx_configuration_is_valid_as_it_is(
    need_nginx: None, tmp_path: Path
) -> None:
    assert NGINX is not None
    words = [NGINX, "-t", "-p", str(tmp_path), "-c", str(ROOT / "deploy" / "nginx.conf")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_the_configuration_of_the_tests_is_toml(tmp_path: Path) -> None:
    text = configuration({"a": "http://127.0.0.1:1/v1", "b": "http://b/v1"}, tmp_path / "log")
    document = tomllib.loads(text)
    assert [route["upstreams"] for route in document["routes"]] == [["a"], ["b"], ["a"]]


def test_without_gunicorn_nginx_says_so_in_the_shape_that_clients_read(
    need_nginx: None, tmp_path: Path
) -> None:
    listen = free_address()
    with running_nginx(tmp_path, listen, free_address()):
        _until_connected(listen)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(f"http://{listen}/v1/models", timeout=10)
    with caught.value as answer:
        assert answer.code == 502
        assert b'"code":"gateway_unavailable"' in answer.read()
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x/evil\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
    ids=["garbage", "host with a path", "two hosts", "two framings", "long URL", "long header"],
)
def test_what_is_no_good_http_ends_at_nginx(
    need_nginx: None, tmp_path: Path, request_bytes: bytes
) -> None:
    listen = free_address()
    with running_nginx(tmp_path, listen, free_address()):
        _until_connected(listen)
        host, _, port = listen.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(request_bytes)
            answer = b""
            # nginx keeps some of these connections for a while after it has answered.
            while not answer.endswith(b"}}"):
                piece = sock.recv(65_536)
                assert piece, answer
                answer += piece
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 414 "))
    assert b'"code":"bad_request"' in answer


def test_a_server_that_leaves_children_behind_is_an_error(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "server.log"
    server = running([sys.executable, "-c", script], log, {})
    process = server.__enter__()
    while not (text := log.read_text()).endswith("\n"):
        assert process.poll() is None
    with pytest.raises(RuntimeError, match="left processes behind"):
        server.__exit__(None, None, None)
    _until_dead(text.strip())


def _until_dead(pid: str) -> None:
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        try:
            # Killed, but not collected by anybody, counts too.
            if ") Z " in stat.read_text():
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)
    raise TimeoutError(pid)


def _until_connected(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(address)
