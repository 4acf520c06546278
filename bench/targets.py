"""What is measured: each target is a process group on one core, in front of the same upstream."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEY: Final = "bench-key-0123456789"
PEPPER: Final = "bench-pepper-0123456789-0123456789-0123456789"
ROOT: Final = Path(__file__).parents[1]
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_PATIENCE: Final = 120.0
_TICK: Final = os.sysconf("SC_CLK_TCK")

_UPSTREAM: Final = """
[upstreams.bench]
provider = "openai_compatible"
base_url = "{upstream}/v1"
credential = {{ env = "BENCH_UPSTREAM_KEY" }}
allow_private = true

[[routes]]
models = ["*"]
upstreams = ["bench"]

[[plugins]]
use = "openai_compatible"
"""
BARE: Final = _UPSTREAM + '\n[access]\nanonymous = "anyone"\n'
BRIDGE: Final = BARE + "\n[upstreams.bench.bridge]\nalways = true\n"
_GOVERNED: Final = """
[store]
url = "sqlite:///{folder}/outgate.db"
pepper = {{ env = "OUTGATE_PEPPER" }}

[teams.bench]

[[prices]]
models = ["*"]
input = 0.15
output = 0.60
since = 2026-11-01

[[plugins]]
use = "virtual_keys"

[[plugins]]
use = "rate_limit"
[plugins.options]
path = "{folder}/limits.db"
rules = [{{ per = "key", requests = "1000000/minute", tokens = "1000000000/minute" }}]

[[plugins]]
use = "budget"
[plugins.options]
budgets = [{{ name = "month", per = "team", money = 1000000.0, every = "month" }}]
"""
GOVERNED: Final = _UPSTREAM + _GOVERNED
#: Everything that a company would have on: callers' keys, secrets and personal data searched both ways, limits,
#: a budget, a trail that is on disk before a call leaves, metrics.
DEPLOYED: Final = (
    _UPSTREAM
    + _GOVERNED
    + """
[audit]
directory = "{folder}/trail"

[[plugins]]
use = "secrets"

[[plugins]]
use = "pii"

[policy.request]
secrets = "deny"
pii = "mask"

[policy.response]
secrets = "redact"

[[plugins]]
use = "metrics"
"""
)
_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream bench {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A running target; ``pids`` are its processes, None for the upstream itself."""

    name: str
    address: tuple[str, int]
    group: int | None = None
    key: str = ""
    headers: str = ""
    started: float = 0.0

    def cpu_seconds(self) -> float:
        """What all of its processes have used so far."""
        if self.group is None:
            return 0.0
        return sum(_cpu_of(path) for path in Path("/proc").glob("[0-9]*/stat") if self._owns(path))

    def memory(self) -> float:
        """The largest of its processes, in bytes, with its share of what it shares."""
        if self.group is None:
            return 0.0
        stats = [path for path in Path("/proc").glob("[0-9]*/stat") if self._owns(path)]
        return max(_memory_of(path.with_name("smaps_rollup")) for path in stats)

    def _owns(self, path: Path) -> bool:
        try:
            return os.getpgid(int(path.parent.name)) == self.group
        except ProcessLookupError:
            return False


def _cpu_of(path: Path) -> float:
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory_of(path: Path) -> float:
    found = re.search(r"^Pss: +([0-9]+) kB", path.read_text(), re.MULTILINE)
    return float(found[1]) * 1024 if found else 0.0


def pin(core: int | None) -> Callable[[], None]:
    """What a child does before it becomes its program: move to a core (None: stay)."""

    def move() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    return move


@contextmanager
def running(
    command: Sequence[str], folder: Path, core: int | None, environment: dict[str, str]
) -> Iterator[int]:
    """A server in a process group of its own, ended with this; gives the group."""
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=pin(core),  # noqa: PLW1509 - no thread runs here
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server(
    name: str,
    command: Sequence[str],
    folder: Path,
    core: int | None,
    environment: dict[str, str],
    *,
    headers: str = "",
) -> Iterator[Target]:
    """A target that listens where ``{address}`` (or ``{port}``) stands in its command or environment."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = [word.format(address=f"127.0.0.1:{port}", port=port) for word in command]
    values = {key: value.format(address=f"127.0.0.1:{port}") for key, value in environment.items()}
    begun = time.monotonic()
    with running(words, folder, core, values) as group:
        _await(port, folder)
        took = time.monotonic() - begun
        key = values.get("BENCH_KEY", "")
        yield Target(name, ("127.0.0.1", port), group, key, headers, took)


def _await(port: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise RuntimeError((folder / "output.log").read_text()) from None
            time.sleep(0.05)
        else:
            return


def upstream(folder: Path, core: int | None) -> AbstractContextManager[Target]:
    """The upstream behind all others."""
    command = [sys.executable, "bench/upstream.py", "{address}"]
    return server("direct", command, folder / "upstream", core, {})


def outgate(
    name: str, text: str, folder: Path, core: int | None, behind: str, **settings: str
) -> AbstractContextManager[Target]:
    """Outgate with a configuration, in one worker with its own settings; ``settings`` are further variables."""
    here = folder / name.replace(" ", "-")
    here.mkdir(parents=True)
    path = here / "outgate.toml"
    path.write_text(text.format(upstream=behind, folder=here))
    environment = {
        **({"OUTGATE_PEPPER": PEPPER} if "[store]" in text else {}),
        "OUTGATE_CONFIG": str(path),
        "OUTGATE_BIND": "{address}",
        "OUTGATE_WORKERS": "1",
        **({"BENCH_KEY": KEY} if "BENCH_KEY" in text else {}),
        "BENCH_UPSTREAM_KEY": "upstream-key-0123456789",
        **settings,
    }
    if "virtual_keys" in text:
        environment["BENCH_KEY"] = made_key(path, environment)
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
    return server(name, command, here, core, environment)


def made_key(path: Path, environment: dict[str, str]) -> str:
    """The secret of a new virtual key."""
    command = [sys.executable, "-m", "proxy.cli", "keys", "create", "bench", "--team", "bench"]
    command += ["--quiet", "--config", str(path)]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return made.stdout.decode().strip()


def naive(folder: Path, core: int | None, behind: str) -> AbstractContextManager[Target]:
    """The naive proxy under the same server with the same number of threads."""
    command = [sys.executable, "-m", "gunicorn", "-c", "/dev/null", "--chdir", "bench", "-b"]
    command += ["{address}", "-k", "gthread", "--threads", "128", "--keep-alive", "75"]
    command += ["--no-control-socket", "naive:app"]
    return server("naive", command, folder / "naive", core, {"NAIVE_UPSTREAM": behind})


def nginx(folder: Path, core: int | None, behind: str) -> AbstractContextManager[Target]:
    """A pass-through by nginx: what a proxy costs that looks at nothing."""
    assert NGINX is not None
    here = folder / "nginx"
    here.mkdir(parents=True)
    port = free_port()
    address = behind.removeprefix("http://")
    text = _NGINX.format(folder=here, upstream=address, listen=f"127.0.0.1:{port}")
    (here / "nginx.conf").write_text(text)

    @contextmanager
    def started() -> Iterator[Target]:
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        command = [NGINX, "-p", str(here), "-c", str(here / "nginx.conf"), *user]
        with running(command, here, core, {}) as group:
            _await(port, here)
            yield Target("nginx", ("127.0.0.1", port), group)

    return started()
