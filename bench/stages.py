"""Where the time of a call goes, stage by stage: ``python bench/stages.py [--quick]``.

One caller, no web server: the application alone. Each stage counts without the stages that run inside it.
"""

import argparse
import functools
import importlib
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import targets
from governed import application, call
from run import machine, quantile

#: Stage → the functions that it consists of, as module, class, name.
STAGES: Final[dict[str, list[tuple[str, str | None, str]]]] = {
    "the way in, the response": [("proxy.blueprint", "Direct", "__call__")],
    "the call's own bookkeeping": [("proxy.pipeline", "Pipeline", "handle")],
    "request: headers, JSON, parameters": [("proxy.intake", "Intake", "accept")],
    "hook chain around the plugins": [("proxy.steps", "Trail", "attempt"), ("proxy.chain", None, "tell")],
    "virtual key: found, its models and upstream": [
        ("plugins.virtual_keys", "VirtualKeys", name)
        for name in ("identify", "guard_request", "choose_upstream")
    ],
    "rate limits: rules, headers, corrections": [
        ("plugins.rate_limit", "RateLimit", name) for name in ("admit", "log_exchange")
    ],
    "rate limits: the counters (LMDB)": [
        ("plugins.rate_limit.shared", "SharedStorage", name) for name in ("take", "settle")
    ],
    "budget: bounds, prices, purses": [
        ("plugins.budget", "Budget", name) for name in ("admit", "log_exchange")
    ],
    "budget: the reservation (SQLite)": [("proxy.store.ledger", "Ledger", "reserve")],
    "search: the detectors, both ways": [("proxy.policy", "Policy", "find")],
    "search: texts, policy, findings": [
        ("proxy.screen", "Screen", "judge"),
        ("proxy.screen", "Screen", "_search"),
        ("proxy.review", "Review", "whole"),
        ("proxy.review", "Review", "headers"),
        ("proxy.review", "Review", "judged"),
    ],
    "audit: intent, until it is on disk": [("proxy.evidence", "Evidence", "leaving")],
    "audit: outcome": [("proxy.evidence", "Evidence", "over")],
    "metrics": [("plugins.metrics", "Metrics", "log_exchange")],
    "upstream: chosen, watched": [("proxy.tries", "Tries", "answer")],
    "upstream: request written, head read, and the wait": [("proxy.egress.client", "Egress", "send")],
    "upstream: reply read": [("proxy.egress.reply", "UpstreamReply", "read")],
    "relay: headers, a look at the reply": [("proxy.relay", "Relay", "answer")],
    "record": [("proxy.exchange", "Exchange", "finish")],
}  # fmt: skip
_PAUSE: Final = (
    0.002  # seconds between two calls, in which what runs behind a call comes to its end
)


class Clock:
    """Of each call: seconds in each stage, less those in stages inside it."""

    def __init__(self) -> None:
        self.calls: list[dict[str, float]] = []
        self._inside: list[float] = []

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                within = self._inside.pop()
                if self._inside:
                    self._inside[-1] += took
                self.calls[-1][stage] += took - within

        return timed

    def install(self) -> None:
        """Time every stage, before an application is made."""
        for stage, functions in STAGES.items():
            for module, owner, name in functions:
                found: Any = importlib.import_module(module)
                found = getattr(found, owner) if owner else found
                setattr(found, name, self.around(stage, getattr(found, name)))


def measured(text: str, folder: Path, behind: str, clock: Clock, calls: int) -> dict[str, float]:
    """The median of each stage, in microseconds; and of a whole call."""
    clock.calls = [defaultdict(float)]
    with application(folder.name, text, folder.parent, behind) as (app, key):
        for number in range(calls + 50):
            clock.calls.append(defaultdict(float))
            took, free, _ = call(app, key)
            clock.calls[-1]["all, until the answer is there"] = took
            clock.calls[-1]["all, until the thread is free"] = free
            time.sleep(_PAUSE if number % 10 == 0 else 0)
    found = clock.calls[51:]
    names = [*STAGES, "all, until the answer is there", "all, until the thread is free"]
    return {name: quantile([each[name] for each in found], 0.5) * 1e6 for name in names}


def main() -> None:
    """Measure the bare, the governed and the deployed application, and print a row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--directory", default=".", help="on the file system to measure")
    options = parser.parse_args()
    print("machine:", json.dumps(machine()))
    cores = sorted(os.sched_getaffinity(0))
    other = cores[1] if len(cores) > 1 else None
    clock = Clock()
    clock.install()
    texts = {"bare": targets.BARE, "governed": targets.GOVERNED, "deployed": targets.DEPLOYED}
    rows: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as name,
        ExitStack() as stack,
    ):
        folder = Path(name).resolve()
        direct = stack.enter_context(targets.upstream(folder, other))
        targets.pin(cores[0] if other is not None else None)()
        behind = "http://{}:{}".format(*direct.address)
        for title, text in texts.items():
            calls = 300 if options.quick else 2000
            rows[title] = measured(text, folder / title, behind, clock, calls)
    print(f"| µs, median | {' | '.join(rows)} |")
    print("|---" + "|---:" * len(rows) + "|")
    for stage in next(iter(rows.values())):
        print(f"| {stage} | " + " | ".join(f"{row[stage]:,.0f}" for row in rows.values()) + " |")


if __name__ == "__main__":
    main()
