"""Many calls against gunicorn as deployed, with what its worker holds printed on the way: ``make soak``."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.load import Caller, ask, call, get, memory, running_upstream, workers
from tests.e2e.stack import SECRETS, Stack, configuration, running_stack
from tests.store.servers import PEPPER

CALLERS: Final = 8
#: Of so many calls one is a stream.
STREAM_EVERY: Final = 4
_STREAM: Final = "stream-8-1"
_WARM: Final = 4
_MORE: Final = """
[store]
url = "sqlite:///{folder}/outgate.db"
pepper = {{ env = "PEPPER" }}

[teams.eng]

[audit]
directory = "{folder}/trail"

[policy.response]
secrets = "redact"
pii = "redact"

[policy.request]
pii = "mask"

[[prices]]
models = ["*"]
input = 0.15
output = 0.60
since = 2026-11-01

[[plugins]]
use = "secrets"

[[plugins]]
use = "pii"

[[plugins]]
use = "rate_limit"
[plugins.options]
path = "{folder}/limits.db"
rules = [{{ per = "key", requests = "1000000/minute" }}]

[[plugins]]
use = "budget"
[plugins.options]
budgets = [{{ name = "month", per = "key", tokens = 1000000000000, every = "month" }}]

[[plugins]]
use = "metrics"
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker holds: bytes of memory, open descriptors, threads."""

    rss: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        rss = self.rss / 1024 / 1024
        return f"{rss:.1f} MB, {self.descriptors} descriptors, {self.threads} threads"


def held(worker: int) -> Held:
    return Held(
        memory(worker)["Rss"],
        len(list(Path(f"/proc/{worker}/fd").iterdir())),
        len(list(Path(f"/proc/{worker}/task").iterdir())),
    )


@contextmanager
def deployed(folder: Path) -> Iterator[Stack]:
    """One worker with everything on: keys, detection both ways, limits, budget, audit, metrics."""
    with running_upstream(folder) as upstream:
        config = configuration({"load": f"{upstream.url}/v1"}, folder / "log.jsonl")
        config += _MORE.format(folder=folder)
        environment = {**SECRETS, "PEPPER": PEPPER}
        with running_stack(
            folder, config, front=False, threads=64, environment=environment
        ) as stack:
            yield stack


def make(stack: Stack, calls: int) -> None:
    """So many calls by callers who each keep a connection; raises for one that is not answered whole."""
    faults: list[BaseException] = []

    def work() -> None:
        try:
            _call(stack.direct, calls // CALLERS)
        except BaseException as fault:  # noqa: BLE001 - told by who waits for the threads
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def _call(url: str, count: int) -> None:
    with Caller(url) as caller:
        for number in range(count):
            if number % STREAM_EVERY:
                answer = caller.exchange(call("whole", stream=False))
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            else:
                caller.send(call(_STREAM))
                caller.read_until(b"\r\n0\r\n\r\n")
                assert b"data: [DONE]" in caller.data, caller.data


def soak(
    folder: Path, calls: int, tell: Callable[[str], object], steps: int = 10
) -> tuple[Held, Held]:
    """What a worker holds once it is warm, and after ``calls`` more."""
    with deployed(folder) as stack:
        [worker] = workers(stack)
        for _ in range(_WARM):  # every time it is other threads that are warm after it
            make(stack, max(200, calls // 10))
        first = held(worker)
        tell(f"warm: {first}")
        for step in range(1, steps + 1):
            make(stack, calls // steps)
            tell(f"{step * calls // steps} calls: {held(worker)}")
        assert ask(stack.direct, get("/readyz")).startswith(b"HTTP/1.1 200 ")
        last = held(worker)
        assert workers(stack) == [worker]
        said = stack.logs()["gunicorn.log"]
        assert "Traceback" not in said, said[-4000:]
        return first, last


def main() -> None:
    """Soak with as many calls as the command line says."""
    with tempfile.TemporaryDirectory() as folder:
        first, last = soak(Path(folder), int(sys.argv[1]), lambda line: print(line, flush=True))  # noqa: T201 - it is there to be read
    grown = (last.rss - first.rss) / 1024 / 1024
    print(f"grown by {grown:+.1f} MB, {last.descriptors - first.descriptors:+} descriptors")  # noqa: T201


if __name__ == "__main__":
    main()
