"""Many streams at once: ``python bench/many.py [--streams 500 1000]``; what arrives, how late, and what each takes.

Two workers of Outgate as deployed, or with ``--bare``, 20 events a second in every stream. The workers share a core,
and so do the load and the upstream.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import client
import targets
from run import machine, quantile

_GAP_MS: Final = 50
_EVENTS: Final = 200
_WORKERS: Final = 2


def peak(target: targets.Target, over: threading.Event, found: list[float]) -> None:
    """Look at the memory of all workers until it is over."""
    while not over.wait(0.5):
        found.append(target.memory() * _WORKERS)


def measure(target: targets.Target, streams: int) -> str:
    """One row of the table."""
    data = client.request(f"stream-{_EVENTS}-{_GAP_MS}", target.key, stream=True)
    before, found, over = target.memory() * _WORKERS, [0.0], threading.Event()
    watcher = threading.Thread(target=peak, args=(target, over, found))
    watcher.start()
    used = target.cpu_seconds()
    result = client.stream(target.address, data, streams)
    used = target.cpu_seconds() - used
    over.set()
    watcher.join()
    each = max(0.0, max(found) - before) / streams / 1024
    cells = [
        f"{streams:,}", f"{result.complete:,}", f"{result.events / (streams * _EVENTS):.2%}",
        f"{quantile(result.firsts, 0.5) * 1000:.0f}", f"{quantile(result.delays, 0.5) * 1000:.1f}",
        f"{quantile(result.delays, 0.99) * 1000:.0f}", f"{each:.0f}",
        f"{used / result.events * 1e6:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500, 1000])
    parser.add_argument("--bare", action="store_true", help="no plugins: the streams alone")
    options = parser.parse_args()
    print("machine:", json.dumps(machine()))
    cores = sorted(os.sched_getaffinity(0))
    loaded, other = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        targets.pin(other)()
        direct = stack.enter_context(targets.upstream(folder, other))
        behind = "http://{}:{}".format(*direct.address)
        text = targets.BARE if options.bare else targets.DEPLOYED
        settings = {"OUTGATE_WORKERS": str(_WORKERS), "OUTGATE_THREADS": "1040"}
        target = stack.enter_context(
            targets.outgate("many", text, folder, loaded, behind, **settings)
        )
        time.sleep(2)
        print(
            "| streams | complete | events | first ms | delay ms p50 | p99 | KB each | CPU µs/event |"
        )
        print("|---:" * 8 + "|")
        for streams in options.streams:
            print(measure(target, streams), flush=True)


if __name__ == "__main__":
    main()
