"""What it costs that an intent is on disk before a call leaves: ``python bench/audit.py [--quick] [--directory DIR]``.

Eight callers, as many as the threads that a busy worker has in this place at once. Every round measures every row,
one after the other, so that noise of the machine falls on all of them alike.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from run import machine, quantile

from proxy.audit import AuditTable, Trail, keys

CALLERS: Final = 8
#: About as long as what is recorded of a call.
FIELDS: Final = {
    "endpoint": "chat", "principal": "alice", "groups": ["research"], "model": "gpt-5", "stream": True,
    "client": "10.1.2.3", "upstream": "openai", "digest": "0" * 64, "bytes_in": 2048, "bytes_sent": 2011,
    "verdicts": [{"plugin": name, "hook": "guard_request", "verdict": "pass", "milliseconds": 0.1}
                 for name in ("models", "regex_guard", "secrets", "pii")],
    "findings": [{"kind": "email", "place": "messages[0].content", "plugin": "pii", "action": "mask"}],
}  # fmt: skip
Begin = Callable[[str], None]


@contextmanager
def off(_: Path) -> Iterator[tuple[Begin, Begin]]:
    """Audit off: the calls that are made in its place do nothing."""

    def nothing(_: str) -> None:
        pass

    yield nothing, nothing


@contextmanager
def trail(directory: Path) -> Iterator[tuple[Begin, Begin]]:
    """The trail as it is deployed: sealed, signed, an intent and an outcome for each call."""
    made = keys.create(directory / "keys")
    table = AuditTable(
        directory=str(directory / "audit"), seal_to=str(made[1]), sign_with=str(made[2])
    )
    audit = Trail(table, "0" * 64)
    audit.start()
    try:
        yield (
            lambda call: audit.intent({"id": call, **FIELDS}),
            lambda call: audit.outcome({"id": call, **FIELDS, "outcome": "ok"}),
        )
    finally:
        audit.close()


@contextmanager
def bare(directory: Path) -> Iterator[tuple[Begin, Begin]]:
    """Every caller appends the same bytes to a file of its own and syncs it: what the file system asks for."""
    own = threading.local()
    data = json.dumps(FIELDS).encode()

    def begin(call: str) -> None:
        if not hasattr(own, "file"):
            own.file = (directory / f"bare-{call}").open("ab", buffering=0)
        own.file.write(data)
        os.fdatasync(own.file.fileno())

    yield begin, lambda _: None


ROWS: Final = {"audit off": off, "write + fdatasync each": bare, "audit trail": trail}


def measure(row: str, directory: Path, seconds: float, call_seconds: float) -> dict[str, float]:
    """Times in milliseconds of what stands before the call, and processor time in microseconds for each call."""
    directory.mkdir(parents=True)
    waits: list[float] = []
    with ROWS[row](directory) as (begin, end):
        stop = time.monotonic() + seconds
        used = time.process_time()

        def caller(number: int) -> None:
            count = 0
            while time.monotonic() < stop:
                call = f"{number}-{count}"
                started = time.perf_counter()
                begin(call)
                waits.append(time.perf_counter() - started)
                if call_seconds:
                    time.sleep(call_seconds)
                end(call)
                count += 1

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = time.process_time() - used
    return {
        "p50": quantile(waits, 0.5) * 1000,
        "p99": quantile(waits, 0.99) * 1000,
        "calls": len(waits) / seconds,
        "cpu": used / len(waits) * 1e6,
    }


_COLUMNS: Final = (
    ("ms p50", "p50"),
    ("ms p99", "p99"),
    ("calls/s", "calls"),
    ("CPU µs/call", "cpu"),
)


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """Medians over the rounds as Markdown."""
    lines = [f"| | {' | '.join(title for title, _ in _COLUMNS)} |", "|---" + "|---:" * 4 + "|"]
    for row in rounds[0]:
        cells = (
            f"{statistics.median(found[row][key] for found in rounds):,.3f}" for _, key in _COLUMNS
        )
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all rows with calls of 10 ms, and with no time between calls; print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three short rounds, ten seconds")
    parser.add_argument(
        "--directory", help="on the file system to measure; default: the current one"
    )
    options = parser.parse_args()
    rounds, seconds = (3, 0.5) if options.quick else (7, 2.0)
    print("machine:", json.dumps(machine()))
    results: dict[float, list[dict[str, Any]]] = {0.01: [], 0.0: []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory or ".") as name:
        for number in range(rounds):
            for call_seconds, found in results.items():
                place = Path(name, f"{number}-{call_seconds}")
                found.append(
                    {row: measure(row, place / row, seconds, call_seconds) for row in ROWS}
                )
    for call_seconds, found in results.items():
        what = (
            f"calls of {call_seconds * 1000:.0f} ms"
            if call_seconds
            else "one call right after the other"
        )
        print(f"\n{CALLERS} callers, {what}\n\n{table(found)}")


if __name__ == "__main__":
    main()
