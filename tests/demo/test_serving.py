import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests

from tests.ports import free_port

CODE = """
import sys
from proxy.demo import serve
serve("127.0.0.1", int(sys.argv[1]), api_key="sk-served-key", delay=0.001)
"""


@pytest.fixture
def served() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(port)], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        _wait(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (out, err) == (b"", b"")


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the upstream did not start")


def test_gunicorn_serves_streams_quietly_and_stops_when_told(served: str) -> None:
    body = {"model": "demo-base", "prompt": "The sea", "stream": True}
    headers = {"Authorization": "Bearer sk-served-key"}
    with requests.Session() as session:
        reply = session.post(f"{served}/v1/completions", json=body, headers=headers, timeout=20)
        assert reply.text.endswith("data: [DONE]\n\n")
        assert session.get(f"{served}/v1/models", timeout=20).status_code == 401
