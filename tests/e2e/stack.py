"""The real thing for tests: gunicorn with a configuration, nginx in front, both gone afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.ports import free_address

ROOT: Final = Path(__file__).parents[2]
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PATIENCE: Final = 30.0

ALICE_KEY: Final = "alice-key-0123456789"
UPSTREAM_KEY: Final = "upstream-key-0123456789"
#: What the configuration below refers to by name.
SECRETS: Final = {"ALICE_KEY": ALICE_KEY, "DEMO_UPSTREAM_KEY": UPSTREAM_KEY}

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running proxy. ``url`` is what callers use, ``direct`` goes to gunicorn past nginx."""

    url: str
    direct: str
    folder: Path
    gunicorn: subprocess.Popen[bytes]
    nginx: subprocess.Popen[bytes] | None

    @property
    def base_url(self) -> str:
        """What an SDK is given as its base URL."""
        return f"{self.url}/v1"

    def records(self) -> list[dict[str, Any]]:
        """What was logged so far, one entry for each call; what is just being written is not."""
        whole = (self.folder / "log.jsonl").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.strip()]

    def wait_for_records(self, count: int) -> list[dict[str, Any]]:
        """The log once it holds ``count`` records: each is written after its reply."""
        deadline = time.monotonic() + PATIENCE
        while len(records := self.records()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(records)} records instead of {count} after {PATIENCE} s")
            time.sleep(0.02)
        return records

    def logs(self) -> dict[str, str]:
        """What the servers wrote, by file name; for the report of a test that fails."""
        return {path.name: path.read_text(errors="replace") for path in self.folder.glob("*.log")}


def configuration(upstreams: Mapping[str, str], log: Path) -> str:
    """An ``outgate.toml`` by which model NAME goes to upstream NAME, any other to the first.

    ``upstreams`` maps names to base URLs. To Portkey's SDKs, NAME is a provider and
    NAME-virtual-key a virtual key; the provider ``openai`` is the first upstream.
    """
    first, *_ = upstreams
    virtual_keys = ", ".join(f'"{name}-virtual-key" = "{name}"' for name in upstreams)
    providers = ", ".join(f'{name} = "{name}"' for name in upstreams)
    entries = "".join(
        f"""
[upstreams.{name}]
provider = "openai_compatible"
base_url = "{url}"
credential = {{ env = "DEMO_UPSTREAM_KEY" }}
allow_private = true

[[routes]]
models = ["{name}"]
upstreams = ["{name}"]
"""
        for name, url in upstreams.items()
    )
    return f"""{entries}
[[routes]]
models = ["*"]
upstreams = ["{first}"]

[[plugins]]
use = "static_keys"
[plugins.options]
keys = [ {{ name = "alice", groups = ["eng"], key = {{ env = "ALICE_KEY" }} }} ]

[[plugins]]
use = "openai_compatible"

[[plugins]]
use = "portkey"
[plugins.options]
virtual_keys = {{ {virtual_keys} }}
providers = {{ openai = "{first}", {providers} }}

[[plugins]]
use = "log_jsonl"
[plugins.options]
path = "{log}"
"""


def nginx_configuration(text: str, listen: str, gunicorn: str) -> str:
    """The shipped ``nginx.conf`` with its two addresses replaced, each there exactly once."""
    for shipped, wanted in (("127.0.0.1:8080 ", f"{listen} "), ("127.0.0.1:8000 ", f"{gunicorn} ")):
        if _directives(text).count(shipped) != 1:
            raise ValueError(f"nginx.conf does not hold {shipped.strip()} exactly once")
        text = text.replace(shipped, wanted)
    return text


def _directives(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def post(stack: Stack, body: Mapping[str, Any], path: str = "/v1/completions") -> bytes:
    """One plain call as alice; raises ``HTTPError`` for an error status."""
    headers = {"authorization": f"Bearer {ALICE_KEY}", "content-type": "application/json"}
    call = urllib.request.Request(stack.url + path, json.dumps(body).encode(), headers)
    with _OPENER.open(call, timeout=PATIENCE) as answer:
        data: bytes = answer.read()
        return data


@contextmanager
def running_stack(
    folder: Path,
    config: str,
    *,
    workers: int = 1,
    threads: int = 32,
    front: bool = True,
    environment: Mapping[str, str] = SECRETS,
) -> Iterator[Stack]:
    """gunicorn, and nginx in front of it when ``front``; ready for calls."""
    with ExitStack() as cleanup:
        address = free_address()
        gunicorn = cleanup.enter_context(
            running_gunicorn(
                folder, config, address, workers=workers, threads=threads, environment=environment
            )
        )
        nginx, url = None, f"http://{address}"
        if front:
            listen = free_address()
            nginx = cleanup.enter_context(running_nginx(folder, listen, address))
            url = f"http://{listen}"
        stack = Stack(
            url=url, direct=f"http://{address}", folder=folder, gunicorn=gunicorn, nginx=nginx
        )
        wait_until_ready(f"{url}/readyz", [p for p in (gunicorn, nginx) if p], stack)
        yield stack


@contextmanager
def running_gunicorn(
    folder: Path,
    config: str,
    address: str,
    *,
    workers: int,
    threads: int,
    environment: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """gunicorn with the settings of the repository's own ``gunicorn.conf.py``."""
    path = folder / "outgate.toml"
    path.write_text(config)
    settings = {
        "OUTGATE_CONFIG": str(path),
        "OUTGATE_BIND": address,
        "OUTGATE_WORKERS": str(workers),
        "OUTGATE_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    with running(command, folder / "gunicorn.log", {**settings, **environment}) as process:
        yield process


@contextmanager
def running_nginx(folder: Path, listen: str, gunicorn: str) -> Iterator[subprocess.Popen[bytes]]:
    """nginx with the shipped configuration."""
    assert NGINX is not None
    shipped = (ROOT / "deploy" / "nginx.conf").read_text()
    path = folder / "nginx.conf"
    path.write_text(nginx_configuration(shipped, listen, gunicorn))
    # The temporary folder of a test is closed to the user that nginx would change to.
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    command = [NGINX, "-p", str(folder), "-c", str(path), "-g", directives]
    with running(command, folder / "nginx.log", {}) as process:
        yield process


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own; none of the group is left when this ends."""
    # What coverage needs to measure the child passes; nothing else of the developer's shell does.
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME", "LANG", "TMPDIR"} or name.startswith("COVERAGE_")
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**passed, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server as an operator would; raises when it, or a child of it, has to be killed."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    raise RuntimeError(f"{process.args!r} left processes behind")


def wait_until_ready(url: str, processes: Sequence[subprocess.Popen[bytes]], stack: Stack) -> None:
    """Until ``url`` answers 200; raises with the logs when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not _answers(url):
        ended = [process.args for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(f"--- {name}\n{text}" for name, text in stack.logs().items())
            raise RuntimeError(f"{url} is not ready; ended: {ended}\n{logs}")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
