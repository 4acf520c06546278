"""What key look-up, limits and a budget add to a call: ``python bench/governed.py [--quick] [--directory DIR]``.

Two applications in one process, bare and governed, take turns call by call with one caller, so that noise of the
machine falls on both alike. No web server is between: a call is what the application does with it. Then the parts by
themselves. The store and the counters are below the directory that the command is run in, or ``--directory``.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import targets
from run import machine, quantile

from plugins.rate_limit.shared import SCHEME, SharedStorage
from plugins.rate_limit.window import Correction, Demand
from proxy import Charge, Counts, Labels, Secret
from proxy.app import create_app
from proxy.config import load
from proxy.store import Store, StoreTable
from proxy.store.grant import Grant

_BODY: Final = json.dumps({"model": "whole", "prompt": "word " * 200, "max_tokens": 256}).encode()
_PART: Final = (
    20  # calls of each before a pause, in which what runs behind the calls comes to its end
)
_ROWS: Final = (
    "until the answer is there",
    "until the thread is free",
    "processor time of the thread",
)
_TURNS: Final = 8
_CALLS: Final = 400


@contextmanager
def application(name: str, text: str, folder: Path, behind: str) -> Iterator[tuple[Any, str]]:
    """A started application and the key for it."""
    here = folder / name
    here.mkdir(parents=True)
    path = here / "outgate.toml"
    path.write_text(text.format(upstream=behind, folder=here))
    os.environ |= {
        "BENCH_UPSTREAM_KEY": "upstream-key-0123456789",
        "OUTGATE_PEPPER": targets.PEPPER,
        "OUTGATE_CONFIG": str(path),
    }
    environment = {key: os.environ[key] for key in ("OUTGATE_PEPPER", "BENCH_UPSTREAM_KEY", "PATH")}
    key = targets.made_key(path, environment) if "virtual_keys" in text else ""
    app = create_app(load(path))
    pipeline = app.extensions["outgate"]
    pipeline.start()
    try:
        yield app, key
    finally:
        pipeline.close()


def environ(key: str) -> dict[str, Any]:
    """A call as a web server hands it over."""
    return {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/v1/completions", "QUERY_STRING": "",
        "SERVER_NAME": "bench", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(_BODY)),
        "HTTP_AUTHORIZATION": f"Bearer {key}", "HTTP_HOST": "bench",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(_BODY),
        "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False, "wsgi.input_terminated": True,
    }  # fmt: skip


def call(app: Any, key: str) -> tuple[float, float, float]:
    """Seconds until the answer is there, seconds until the thread is free again, and its processor time."""
    found = environ(key)
    said: list[str] = []
    used, started = time.thread_time(), time.perf_counter()
    pieces = app(found, lambda status, *_: said.append(status))
    iterator = iter(pieces)
    next(iterator)
    there = time.perf_counter()
    for _ in iterator:
        pass
    pieces.close()
    free = time.perf_counter()
    assert said == ["200 OK"], said
    return there - started, free - started, time.thread_time() - used


def measure(apps: dict[str, tuple[Any, str]], rounds: int) -> dict[str, list[tuple[float, ...]]]:
    """Every call of every application, in turn."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in apps}
    for _ in range(rounds):
        for _ in range(_PART):
            for name, (app, key) in apps.items():
                found[name].append(call(app, key))
        time.sleep(0.005)
    return found


def row(title: str, found: dict[str, list[float]]) -> str:
    """Bare, governed, and what lies between: medians, and what the undisturbed tenth of the calls takes."""
    bare, governed = (found[name] for name in ("bare", "governed"))
    pairs = [after - before for before, after in zip(bare, governed, strict=True)]
    cells = [quantile(bare, 0.5), quantile(governed, 0.5), statistics.median(pairs)]
    cells += [quantile(bare, 0.1), quantile(governed, 0.1)]
    cells.append(cells[-1] - cells[-2])
    return f"| {title} | " + " | ".join(f"{cell * 1e6:,.0f}" for cell in cells) + " |"


def parts(folder: Path) -> dict[str, Callable[[int], object]]:
    """What the plugins ask of the store and the counters, each for the call of a number."""
    pepper = Secret(targets.PEPPER)
    store = Store(StoreTable(url=f"sqlite:///{folder / 'parts.db'}", pepper=pepper))
    store.start()
    _, secret = store.keys.create(Grant(name="bench"))
    limits = SharedStorage(f"{SCHEME}://{folder / 'parts-limits.db'}")
    demands = [Demand(b"requests", 10**9, 1, 60.0), Demand(b"tokens", 10**9, 300, 60.0)]
    charges = [Charge("month", "bench", "2026-11", "USD", 1000, 10**15)]
    counts = Counts(calls=1, prompt_tokens=6, cost=70)

    def take(number: int) -> None:
        taken = limits.take(demands, str(number), 60)
        limits.settle([Correction(demands[1], taken[1].cell, -100)], str(number))

    def settle(number: int) -> None:
        store.ledger.settle(str(number), charges, {"USD": 70}, Labels(key="k"), counts)
        if number % 16 == 15:  # noqa: PLR2004 - calls of one transaction
            store.ledger.flush()

    return {
        "key look-up": lambda _: store.keys.find(secret.reveal()),
        "limits of requests and tokens, corrections included": take,
        "budget: reserve": lambda number: store.ledger.reserve(
            str(number), charges, Labels(key="k")
        ),
        "budget: settle, behind the answer, sixteen calls at a time": settle,
    }


def processor_time(part: Callable[[int], object]) -> float:
    """Of the quickest of some hundreds of calls, in seconds for one call."""
    found = []
    for turn in range(_TURNS):
        used = time.thread_time()
        for number in range(_CALLS):
            part(turn * _CALLS + number)
        found.append((time.thread_time() - used) / _CALLS)
    return min(found)


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--directory", default=".", help="on the file system to measure")
    options = parser.parse_args()
    print("machine:", json.dumps(machine()))
    cores = sorted(os.sched_getaffinity(0))
    other = cores[1] if len(cores) > 1 else None
    texts = {"bare": targets.BARE, "governed": targets.GOVERNED}
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as name,
        ExitStack() as stack,
    ):
        folder = Path(name).resolve()
        direct = stack.enter_context(targets.upstream(folder, other))
        targets.pin(cores[0] if other is not None else None)()
        behind = "http://{}:{}".format(*direct.address)
        apps = {
            name: stack.enter_context(application(name, text, folder, behind))
            for name, text in texts.items()
        }
        measure(apps, 10)
        found = measure(apps, 30 if options.quick else 200)
        print(
            "| µs | bare | governed | added, median of pairs | bare, p10 | governed, p10 | added |"
        )
        print("|---|" + "---:|" * 6)
        for at, title in enumerate(_ROWS):
            print(row(title, {name: [each[at] for each in calls] for name, calls in found.items()}))
        print("\n| processor time, hot | µs |\n|---|---:|")
        for title, part in parts(folder).items():
            print(f"| {title} | {processor_time(part) * 1e6:,.0f} |")


if __name__ == "__main__":
    main()
