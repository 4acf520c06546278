"""Measures what the proxy costs, beside others in the same run: ``python bench/run.py [--quick]``.

Every round measures every target, one after the other, so that noise of the machine falls on all of
them alike; the table shows medians over the rounds, and the smallest and the largest.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import client
import peers
import targets
from targets import Target

_STREAMS: Final = 100
_GAP_MS: Final = 10
_MANY: Final = 16
_LONG: Final = 20_000
_CONFIGURATIONS: Final = {
    "outgate bare": targets.BARE,
    "outgate bridge": targets.BRIDGE,
    "outgate governed": targets.GOVERNED,
    "outgate deployed": targets.DEPLOYED,
}
_NAMES: Final = ("direct", "nginx", *_CONFIGURATIONS, "naive", *peers.NAMES)


def quantile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie; not a number where there are none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(target: Target, seconds: float, events: int) -> dict[str, float]:
    """One target in one round: times in milliseconds, processor time in microseconds."""
    whole = client.request("whole", target.key, stream=False, headers=target.headers)
    long = client.request("whole", target.key, stream=False, size=_LONG, headers=target.headers)
    model = f"stream-{events}-{_GAP_MS}"
    streamed = client.request(model, target.key, stream=True, headers=target.headers)
    client.complete(target.address, whole, 1, 0.1)
    one = client.complete(target.address, whole, 1, seconds)
    large = client.complete(target.address, long, 1, seconds / 3)
    before = target.cpu_seconds()
    many = client.complete(target.address, whole, _MANY, seconds)
    between = target.cpu_seconds()
    streams = client.stream(target.address, streamed, _STREAMS)
    after = target.cpu_seconds()
    return {
        "calls_1": len(one) / sum(one),
        "p50_1": quantile(one, 0.5) * 1000,
        "p99_1": quantile(one, 0.99) * 1000,
        "p50_long": quantile(large, 0.5) * 1000,
        "calls_16": len(many) * _MANY / sum(many),
        "cpu_call": (between - before) / len(many) * 1e6,
        "events": streams.events / streams.seconds,
        "delivered": streams.events / (_STREAMS * events),
        "complete": streams.complete / _STREAMS,
        "first": quantile(streams.firsts, 0.5) * 1000,
        "delay_p50": quantile(streams.delays, 0.5) * 1000,
        "delay_p99": quantile(streams.delays, 0.99) * 1000,
        "cpu_event": (after - between) / streams.events * 1e6 if streams.events else math.nan,
        "memory": target.memory() / 2**20,
        "start": target.started,
    }


def started(
    folder: Path, cores: list[int], cleanup: ExitStack, wanted: Collection[str]
) -> Iterator[Target]:
    """All targets, on the first core; the upstream and this process share the second."""
    loaded, other = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    targets.pin(other)()
    direct = cleanup.enter_context(targets.upstream(folder, other))
    behind = "http://{}:{}".format(*direct.address)
    yield direct
    if targets.NGINX is not None and "nginx" in wanted:
        yield cleanup.enter_context(targets.nginx(folder, loaded, behind))
    for name, text in _CONFIGURATIONS.items():
        if name in wanted:
            yield cleanup.enter_context(targets.outgate(name, text, folder, loaded, behind))
    if "naive" in wanted:
        yield cleanup.enter_context(targets.naive(folder, loaded, behind))
    for name, peer in peers.installed().items():
        if name in wanted:
            yield cleanup.enter_context(peer(folder, loaded, behind))


def against(rounds: list[dict[str, dict[str, float]]]) -> list[dict[str, dict[str, float]]]:
    """The rounds with what only a comparison inside the round can tell."""
    for found in rounds:
        for row in found.values():
            row["added_p50"] = row["p50_1"] - found["direct"]["p50_1"]
            row["added_long"] = row["p50_long"] - found["direct"]["p50_long"]
            row["added_p99"] = row["p99_1"] - found["direct"]["p99_1"]
            for name in ("naive", *peers.NAMES):
                if name in found:
                    row[f"times_{name}"] = row["calls_16"] / found[name]["calls_16"]
    return rounds


def summary(rounds: list[dict[str, dict[str, float]]], name: str, key: str) -> list[float]:
    """Median, smallest, largest."""
    values = [found[name][key] for found in rounds]
    return [statistics.median(values), min(values), max(values)]


_COLUMNS: Final = (
    ("calls/s, 1 connection", "calls_1", "{:,.0f}"),
    ("calls/s, 16", "calls_16", "{:,.0f}"),
    ("× naive", "times_naive", "{:.2f}"),
    ("× Portkey", "times_portkey", "{:.2f}"),
    ("× LiteLLM", "times_litellm", "{:.1f}"),
    ("added ms p50", "added_p50", "{:.2f}"),
    ("added ms p99", "added_p99", "{:.2f}"),
    ("added ms p50, 20 KB", "added_long", "{:.2f}"),
    ("CPU µs/call", "cpu_call", "{:,.0f}"),
    ("events/s", "events", "{:,.0f}"),
    ("delivered", "delivered", "{:.0%}"),
    ("first event ms", "first", "{:.0f}"),
    ("delay ms p50", "delay_p50", "{:.1f}"),
    ("delay ms p99", "delay_p99", "{:.0f}"),
    ("CPU µs/event", "cpu_event", "{:,.0f}"),
    ("memory MB", "memory", "{:.0f}"),
    ("start s", "start", "{:.1f}"),
)


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """The results as Markdown: one column for each target, medians with the spread in brackets."""
    names = [name for name in _NAMES if name in rounds[0]]
    lines = [f"| | {' | '.join(names)} |", "|---" + "|---:" * len(names) + "|"]
    for title, key, form in _COLUMNS:
        cells = []
        if key not in rounds[0][names[0]]:
            continue
        for name in names:
            median, low, high = (form.format(value) for value in summary(rounds, name, key))
            shown = median if low == high else f"{median} ({low} to {high})"
            cells.append("none" if "nan" in median else shown)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Where these figures were measured."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run all rounds, print the table, and write everything to ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds, under a minute")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", choices=_NAMES, metavar="TARGET", help="and direct")
    parser.add_argument("--json", type=Path, help="where to write every figure of every round")
    options = parser.parse_args()
    rounds, seconds = (2, 0.8) if options.quick else (options.rounds, options.seconds)
    where = machine()
    print("machine:", json.dumps(where), flush=True)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as cleanup:
        chosen = list(started(Path(name), cores, cleanup, options.only or _NAMES))
        found = []
        for number in range(rounds):
            events = max(100, int(seconds * 1000 / _GAP_MS))
            found.append({target.name: measure(target, seconds, events) for target in chosen})
            print(f"round {number + 1} of {rounds} done", flush=True)
    results = against(found)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "rounds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
