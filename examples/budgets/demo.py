"""Two teams with budgets: both ask, one runs dry. Everything runs on this machine, in a temporary directory.

python examples/budgets/demo.py
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
UPSTREAM = "127.0.0.1:9000"  # as outgate.toml has it
PATIENCE = 60
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def outgate(*words: str) -> list[str]:
    """A command of Outgate's, run by this Python."""
    return [sys.executable, "-m", "proxy.cli", *words]


def free_address() -> str:
    """HOST:PORT that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def running(url: str, *words: str) -> Iterator[None]:
    """A server until the end of the block; ``url`` answers once it is ready."""
    process = subprocess.Popen(outgate(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise SystemExit(process.communicate()[1].decode())
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.communicate()


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        _HTTP.open(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def send(url: str, key: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """One request as its owner sends it: the status and the JSON of the answer."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with _HTTP.open(urllib.request.Request(url, data, headers), timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def spend(url: str, keys: dict[str, str]) -> None:
    """Let both teams ask in turn until one is refused."""
    ask = {"model": "demo-instruct", "prompt": "Budgets are", "max_tokens": 200}
    for number in range(1, 100):
        for team, key in keys.items():
            status, answer = send(f"{url}/v1/completions", key, ask)
            if status != 200:
                print(f"call {number} of {team}: {status}\n  {answer['error']['message']}\n")
                status, _ = send(f"{url}/v1/completions", keys["research"], ask)
                print(f"research goes on: {status}\n")
                return
            print(f"call {number} of {team}: {answer['usage']['total_tokens']} tokens")


def show(url: str, keys: dict[str, str]) -> None:
    """What is left, as each team sees it, and what the operator sees."""
    for team, key in keys.items():
        _, page = send(f"{url}/v1/usage", key)
        print(f"GET /v1/usage of {team}:")
        for budget in page["budgets"]:
            print("  {name}: {left} {unit} left of {limit}, resets {resets}".format(**budget))
    print("\noutgate usage --by team,model", flush=True)
    subprocess.run(outgate("usage", "--by", "team,model"), check=True)
    print("\noutgate prices check gpt-4o-mini", flush=True)
    subprocess.run(outgate("prices", "check", "gpt-4o-mini"), check=True)


def main() -> None:
    """Make keys, serve, spend, show."""
    with tempfile.TemporaryDirectory() as folder:
        upstream, address = free_address(), free_address()
        text = (HERE / "outgate.toml").read_text().replace(UPSTREAM, upstream)
        Path(folder, "outgate.toml").write_text(text)
        os.chdir(folder)
        os.environ["OUTGATE_PEPPER"] = secrets.token_hex(32)
        os.environ["DEMO_UPSTREAM_KEY"] = "demo-upstream-key-0123456789"
        keys = {
            team: subprocess.check_output(
                outgate("keys", "create", f"{team}-bot", "--team", team, "--quiet"), text=True
            ).strip()
            for team in ("research", "support")
        }
        url = f"http://{address}"
        with (
            running(f"http://{upstream}", "demo-upstream", "--bind", upstream),
            running(f"{url}/healthz", "serve", "--bind", address, "--workers", "2"),
        ):
            spend(url, keys)
            time.sleep(0.5)  # calls are settled after their answers
            show(url, keys)


if __name__ == "__main__":
    main()
