"""A program that is run under ``faults.c``: makes a trail whose disk fails, and tells what was acknowledged."""

import ctypes
import errno
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final

from proxy.audit import AuditFault, AuditTable, Trail

CALLS: Final = ("write", "fdatasync", "fsync", "rename")
CALLERS: Final = 4
_library: Final = ctypes.CDLL(None)


def disturb(call: str, every: int, error: str, part: str) -> None:
    """Have every so manieth call fail; ``short`` writes two thirds."""
    number = 0 if error == "short" else getattr(errno, error)
    _library.fault_set(CALLS.index(call), every, number, error == "short", part.encode())


def calm() -> None:
    _library.fault_set(-1, 0, 0, 0, b"")


def calls(trail: Trail, count: int, sock: socket.socket | None = None) -> tuple[list[str], int]:
    """Calls from several threads; returns those whose intent was acknowledged, and how many were refused."""
    acknowledged: list[str] = []
    refused: list[str] = []

    def work(caller: int) -> None:
        for number in range(count):
            call = f"call-{caller}-{number}"
            try:
                trail.intent({"id": call, "text": "x" * 50})
            except AuditFault:
                refused.append(call)
            else:
                acknowledged.append(call)
                if sock is not None:
                    sock.send(call.encode())
            trail.outcome({"id": call, "outcome": "ok"})

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return acknowledged, len(refused)


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """One trail on one bad disk, which gets well before the end."""
    trail = Trail(AuditTable(**scenario["table"]), "policy")
    trail.start()
    disturb(scenario["call"], scenario["every"], scenario["error"], scenario["part"])
    acknowledged, refused = calls(trail, scenario["count"])
    hits = _library.fault_hits()
    calm()
    trail._here().journal._not_before = 0.0  # the test need not wait for the next attempt
    trail.intent({"id": "after"})
    trail.outcome({"id": "after"})
    obstacle = trail.obstacle()
    trail.close()
    return {"acknowledged": acknowledged, "refused": refused, "hits": hits, "obstacle": obstacle}


def order(scenario: dict[str, Any]) -> dict[str, Any]:
    """Send each call's id as soon as its intent was acknowledged; the library writes down what happened when."""
    one, other = socket.socketpair()
    log = os.open(scenario["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    disturb(scenario["call"], scenario["every"], scenario["error"], ".jsonl")
    _library.fault_log(log)
    trail = Trail(AuditTable(**scenario["table"]), "policy")
    acknowledged, refused = calls(trail, scenario["count"], one)
    calm()
    trail.close()
    other.close()
    return {"acknowledged": acknowledged, "refused": refused}


if __name__ == "__main__":
    work = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write(json.dumps([(order if "log" in each else run)(each) for each in work]))
