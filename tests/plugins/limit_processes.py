"""Processes that share the counters of rate limits, as workers and machines do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_BEGIN: Final = """
import os, sys, time
from plugins.rate_limit import RateLimit
from plugins.rate_limit.rules import Rule
from proxy import Call, Deny, Principal, Record, Secret, Unavailable
from proxy.frozen import freeze

place = sys.argv[1]
where = {"redis": Secret(place)} if place.startswith("redis") else {"path": place}

def limiter(*rules, **options):
    return RateLimit(rules=tuple(Rule(**rule) for rule in rules), **where, **options)

def call(number, **body):
    body = freeze({"model": "m", "prompt": "Hello", **body})
    return Call(
        id=f"{os.getpid()}-{number}", endpoint="completions", body=body, model="m",
        principal=Principal("ci"), deadline=time.monotonic() + 900,
    )

def over(call, **fields):
    return Record(id=call.id, time="", endpoint="completions", outcome="ok", status=200, seconds=0, **fields)

def say(*words):
    print(*words, flush=True)
"""


@contextmanager
def started(
    place: str, script: str, count: int = 1, **environ: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that run ``script`` with the counters at ``place``; killed in the end."""
    command = [sys.executable, "-c", _BEGIN + script, place]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environ, **pipes) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def told(process: subprocess.Popen[str]) -> str:
    """The next line a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process that waits for a line go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def together(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all go on once all are ready, and what each says then."""
    assert {told(process) for process in processes} == {"ready"}
    for process in processes:
        tell(process)
    return [told(process) for process in processes]
