"""Two versions, one after the other on the same sockets: nobody is refused, nothing is cut, and there is a way back."""

import os
import signal
import sysconfig
import threading
import time
import urllib.request
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import pytest

from proxy.audit.verify import verify
from tests.e2e.answers import chunk
from tests.e2e.load import (
    Stream,
    ask,
    begun,
    call,
    eventually,
    receive,
    running_upstream,
)
from tests.e2e.stack import (
    NGINX,
    PATIENCE,
    SECRETS,
    Stack,
    configuration,
    running,
    running_nginx,
    wait_until_ready,
)
from tests.plugins.test_metrics import samples
from tests.ports import free_address
from tests.upstream import WAIT, ScriptedUpstream, sse

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx"),
]

TOKEN: Final = "scrape-token-0123456789"
#: A stream halts in its middle until it is released.
HALF: Final = [chunk(str(number)) for number in range(10)]
HELD: Final = sse([*HALF, WAIT, *HALF, chunk("", "stop"), "[DONE]"])
EVENTS: Final = 2 * len(HALF)
STREAM: Final = call("held")
STREAMS: Final = 20
WHOLE: Final = call("whole", stream=False)
EDITION: Final = '''
from dataclasses import dataclass

from proxy import Call, hookimpl


@dataclass(frozen=True)
class Edition:
    """Code that is another one in every version."""

    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        return call.note(edition="NAME")
'''
MORE: Final = """
[audit]
directory = "FOLDER/trail"

[[plugins]]
use = "edition:Edition"

[[plugins]]
use = "metrics"
options = { token = { env = "SCRAPE_TOKEN" } }
"""


def release(folder: Path, name: str) -> None:
    """A version in an environment of its own, as pip installs one."""
    place = folder / name
    venv.EnvBuilder(symlinks=True).create(place)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    packages.joinpath("shared.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    packages.joinpath("edition.py").write_text(EDITION.replace("NAME", name))
    program = place / "bin/outgate"
    program.write_text(f"#!{place}/bin/python\nfrom proxy.cli import main\nmain()\n")
    program.chmod(0o755)


@dataclass
class Service:
    """What an operator has: the link to the version, the pid file, the log, and signals."""

    stack: Stack
    upstream: ScriptedUpstream

    @property
    def folder(self) -> Path:
        return self.stack.folder

    def install(self, name: str) -> None:
        """Have the link lead to another version, at once."""
        new = self.folder / "new"
        new.symlink_to(self.folder / name)
        new.rename(self.folder / "current")

    def pid(self, more: str = "") -> int:
        """The main process, or with ".2" the one that is to take its place; 0 when there is none."""
        path = self.folder / f"pid{more}"
        return int(path.read_text()) if path.exists() else 0

    def tell(self, number: signal.Signals, more: str = "") -> None:
        os.kill(self.pid(more), number)

    def has_ended(self, pid: int) -> bool:
        self.stack.gunicorn.poll()
        return not lives(pid)

    def workers(self) -> list[int]:
        """The children of the first main process: its workers, and the second main process."""
        return children(self.stack.gunicorn.pid)

    def reload(self) -> None:
        """Reload, until new workers have taken the place of the old ones."""
        old = set(children(self.pid()))
        self.tell(signal.SIGHUP)
        eventually(lambda: len(new := children(self.pid())) == 2 and not old & set(new))

    def log(self) -> str:
        return (self.folder / "gunicorn.log").read_text()

    def edition(self) -> str:
        """The version that serves a call now, or how the call is refused."""
        reply = ask(self.stack.direct, WHOLE)
        if not reply.startswith(b"HTTP/1.1 200 "):
            return reply.decode()
        id_ = dict(
            line.lower().split(": ", 1)
            for line in reply.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        )["x-outgate-id"]
        found: list[str] = []

        def is_recorded() -> bool:
            found[:] = [one["notes"]["edition"] for one in self.stack.records() if one["id"] == id_]
            return bool(found)

        eventually(is_recorded)
        return found[0]

    def editions(self) -> set[str]:
        """The versions that serve now."""
        return {self.edition() for _ in range(8)}

    def upgrade(self) -> int:
        """Start the second main process and wait until it serves; returns its number."""
        self.install("two")
        self.tell(signal.SIGUSR2)
        eventually(lambda: self.pid(".2"))
        eventually(lambda: self.edition() == "two")
        return self.pid(".2")

    def total(self) -> float:
        """Calls that were counted, whichever process tells."""
        asked = urllib.request.Request(
            f"{self.stack.direct}/metrics", headers={"authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            found = samples(answer.read().decode())
        return sum(found.get("outgate_calls_total", {}).values())


@dataclass
class Shorts:
    """Short calls, one after the other, through nginx and past it, as long as this is entered."""

    stack: Stack
    done: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        urls = (self.stack.url, self.stack.direct)
        self._threads = [threading.Thread(target=self._run, args=[url]) for url in urls]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, url: str) -> None:
        while not self._over.is_set():
            try:
                reply = ask(url, WHOLE)
            except (OSError, AssertionError) as error:
                self.failures.append(f"{url}: {error!r}")
            else:
                if reply.startswith(b"HTTP/1.1 200 "):
                    self.done += 1
                else:
                    self.failures.append(f"{url}: {reply[:300]!r}")
            time.sleep(0.03)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    for name in ("one", "two"):
        release(folder, name)
    return folder


@pytest.fixture
def service(request: pytest.FixtureRequest, releases: Path, tmp_path: Path) -> Iterator[Service]:
    """Version one behind nginx; whichever main process is left in the end is ended, and leaves nothing."""
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(releases / name)
    (tmp_path / "current").symlink_to(releases / "one")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    address, listen = free_address(), free_address()
    drain, processes = getattr(request, "param", (45, 2))
    environment = {
        **SECRETS, "SCRAPE_TOKEN": TOKEN, "TMPDIR": str(scratch),
        "OUTGATE_DRAIN_SECONDS": str(drain),
    }  # fmt: skip
    command = [
        str(tmp_path / "current/bin/outgate"), "serve", "--config", str(tmp_path / "outgate.toml"),
        "--bind", address, "--workers", str(processes), "--threads", "64", "--pid-file", str(tmp_path / "pid"),
    ]  # fmt: skip
    with ExitStack() as cleanup:
        upstream = cleanup.enter_context(running_upstream(tmp_path))
        held = cleanup.enter_context(ScriptedUpstream(HELD))
        upstreams = {"load": f"{upstream.url}/v1", "held": f"{held.url}/v1"}
        config = configuration(upstreams, tmp_path / "log.jsonl")
        (tmp_path / "outgate.toml").write_text(config + MORE.replace("FOLDER", str(tmp_path)))
        gunicorn = cleanup.enter_context(running(command, tmp_path / "gunicorn.log", environment))
        nginx = cleanup.enter_context(running_nginx(tmp_path, listen, address))
        stack = Stack(
            url=f"http://{listen}", direct=f"http://{address}", folder=tmp_path,
            gunicorn=gunicorn, nginx=nginx,
        )  # fmt: skip
        found = Service(stack, held)
        cleanup.callback(end, found)
        wait_until_ready(f"{stack.url}/readyz", [gunicorn, nginx], stack)
        yield found
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in found.log()


def end(service: Service) -> None:
    """End every main process that there is, the newest first."""
    for more in (".2", ""):
        if lives(pid := service.pid(more)):
            os.kill(pid, signal.SIGQUIT)
            eventually(partial(service.has_ended, pid))


def lives(pid: int) -> bool:
    return pid > 0 and Path(f"/proc/{pid}").exists()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    # None of a process that is gone, or not there yet.
    return [int(child) for child in path.read_text().split()] if lives(pid) else []


def whole(streams: Sequence[Stream]) -> bool:
    return all(one.is_done and one.events == EVENTS and not one.fault for one in streams)


def settled(service: Service, shorts: Shorts, more: int) -> list[dict[str, Any]]:
    """The records once there is one of each call."""
    records = service.stack.wait_for_records(shorts.done + more)
    assert len({record["id"] for record in records}) == len(records)
    assert {record["outcome"] for record in records} == {"ok"}
    return records


def test_an_upgrade_refuses_nobody_and_cuts_no_stream(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    def upgrade(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        second = service.upgrade()
        service.tell(signal.SIGWINCH)
        eventually(lambda: service.editions() == {"two"})
        service.upstream.release()
        eventually(lambda: service.workers() == [second])
        service.tell(signal.SIGTERM)
        assert service.stack.gunicorn.wait(PATIENCE) == 0
        eventually(lambda: service.pid() == second)

    with Shorts(service.stack) as shorts:
        streams = receive(service.stack.url, [STREAM] * STREAMS, upgrade)
        assert service.editions() == {"two"}
        service.reload()
    assert shorts.failures == []
    assert whole(streams)

    records = settled(service, shorts, STREAMS)
    served = Counter((one.get("stream", False), one["notes"]["edition"]) for one in records)
    assert served[True, "one"] == STREAMS
    assert served[False, "two"] > 0
    eventually(lambda: service.total() == len(records))
    # What is left is a service like any other.
    service.tell(signal.SIGUSR2)
    eventually(lambda: service.pid(".2"))
    end(service)
    assert verify(service.folder / "trail").problems == ()
    record_property("figure", f"{shorts.done} short calls, {dict(served)}")


def test_a_rollback_refuses_nobody_and_cuts_no_stream(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    def roll_back(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        service.install("one")
        service.tell(signal.SIGHUP)
        eventually(lambda: "one" in service.editions())
        service.tell(signal.SIGWINCH, ".2")
        eventually(lambda: service.editions() == {"one"})
        service.upstream.release()
        eventually(lambda: not children(service.pid(".2")))
        service.tell(signal.SIGTERM, ".2")
        eventually(lambda: not service.pid(".2"))

    first = service.pid()
    with Shorts(service.stack) as shorts:
        service.upgrade()
        service.tell(signal.SIGWINCH)
        eventually(lambda: service.editions() == {"two"})
        # Not through nginx: it keeps connections to the old one, and whoever rests serves what comes on those.
        streams = receive(service.stack.direct, [STREAM] * STREAMS, roll_back)
        assert service.editions() == {"one"}
    assert shorts.failures == []
    assert whole(streams)
    assert service.pid() == first

    records = settled(service, shorts, STREAMS)
    served = Counter((one.get("stream", False), one["notes"]["edition"]) for one in records)
    assert served[True, "two"] == STREAMS
    eventually(lambda: service.total() == len(records))
    end(service)
    assert verify(service.folder / "trail").problems == ()
    record_property("figure", f"{shorts.done} short calls, {dict(served)}")


def test_an_upgrade_that_cannot_start_changes_nothing(service: Service) -> None:
    config = service.folder / "outgate.toml"
    good = config.read_text()
    before = service.workers()
    with Shorts(service.stack) as shorts:
        # Nothing is there to be run.
        service.install("three")
        service.tell(signal.SIGUSR2)
        eventually(lambda: "The upgrade did not start, nothing changes" in service.log())
        eventually(lambda: "The other main process has ended" in service.log())
        # It is there, and refuses the configuration.
        service.install("two")
        config.write_text(good + "\n[limitz]\nbody_bytes = 5\n")
        service.tell(signal.SIGUSR2)
        eventually(lambda: "unknown key 'limitz'" in service.log())
        eventually(lambda: service.log().count("The other main process has ended") == 2)
        # Nobody else is there, so there is no rest.
        service.tell(signal.SIGWINCH)
        eventually(lambda: "this main process goes on" in service.log())
        assert service.workers() == before
        assert service.editions() == {"one"}
    assert shorts.failures == []
    assert service.pid(".2") == 0


@pytest.mark.parametrize("service", [(3, 1)], indirect=True, ids=["no-drain"])
def test_either_goes_on_when_the_other_dies(service: Service) -> None:
    first, (worker,) = service.pid(), service.workers()

    def die(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        second = service.upgrade()
        service.tell(signal.SIGWINCH)
        eventually(lambda: service.editions() == {"two"})
        service.tell(signal.SIGHUP, ".2")
        eventually(lambda: f"before this one, {first}, is to end first" in service.log())
        # Both at rest would leave callers waiting.
        service.tell(signal.SIGWINCH, ".2")
        eventually(lambda: "The other main process rests: this one goes on" in service.log())
        # It cannot serve again, so it does not.
        (copy,) = service.folder.glob(f"scratch/outgate-*/{first}/outgate.toml")
        good = copy.read_text()
        copy.write_text("[limitz]")
        service.tell(signal.SIGHUP)
        eventually(lambda: "This main process rests, the other goes on" in service.log())
        assert service.editions() == {"two"}
        copy.write_text(good)
        os.kill(second, signal.SIGKILL)
        eventually(lambda: "serves again" in service.log())
        service.upstream.release()

    # A drain would end them at once: there are three seconds less than three for it.
    streams = receive(service.stack.url, [STREAM] * 5, die)
    assert whole(streams)
    # Who rests is gone when nginx has used up its connections to it.
    eventually(lambda: ask(service.stack.url, WHOLE) and not lives(worker))
    # The workers of the dead end by themselves.
    eventually(lambda: service.editions() == {"one"})

    second = service.upgrade()
    orphans = set(service.workers()) - {second}
    service.tell(signal.SIGKILL)
    service.stack.gunicorn.wait(PATIENCE)
    eventually(lambda: service.pid() == second)
    eventually(lambda: service.editions() == {"two"})
    eventually(lambda: not any(map(lives, orphans)))


@pytest.mark.parametrize("service", [(3, 1)], indirect=True, ids=["no-drain"])
def test_who_rests_drains_when_it_is_to_end(service: Service) -> None:
    def end_first(streams: Sequence[Stream]) -> None:
        eventually(lambda: begun(streams))
        service.upgrade()
        service.tell(signal.SIGWINCH)
        eventually(lambda: service.editions() == {"two"})
        service.tell(signal.SIGTERM)
        assert service.stack.gunicorn.wait(PATIENCE) == 0

    streams = receive(service.stack.direct, [STREAM] * 5, end_first)
    assert [stream.error and stream.error["code"] for stream in streams] == ["draining"] * 5
    assert all(stream.is_framed for stream in streams)
