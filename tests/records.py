"""Records of calls, for tests of whatever stores them."""

import time
from collections.abc import Callable
from typing import Any, Final

from proxy import Failure, Finding, Record, Usage, Verdict

PATIENCE: Final = 30.0


def record(**fields: Any) -> Record:
    """A record of a call that went well, with some fields changed."""
    known: dict[str, Any] = {
        "id": "req_1", "time": "2026-01-01T00:00:00.250+00:00", "endpoint": "chat", "outcome": "ok",
        "status": 200, "seconds": 0.5,
    }  # fmt: skip
    return Record(**{**known, **fields})


def full(**fields: Any) -> Record:
    """A record in which everything is said that can be."""
    known: dict[str, Any] = {
        "principal": "alice", "groups": ("eng",), "metadata": {"team": "red"}, "model": "gpt-x", "stream": True,
        "client": "10.0.0.9", "upstream": "main", "upstream_address": "10.1.1.1:443", "upstream_status": 200,
        "upstream_request_id": "up_1", "upstream_seconds": 0.2, "first_byte_seconds": 0.25,
        "sent_seconds": 0.01, "proxy_seconds": 0.012, "attempts": 2,
        "failures": (Failure("spare", "connect", "nobody listens"),), "retry_count": 1, "digest": "d" * 64,
        "bytes_in": 100, "bytes_sent": 90, "bytes_out": 800, "events": 7, "completion_characters": 40,
        "finish_reasons": ("stop",), "usage": Usage(11, 5, 16, 3),
        "verdicts": (Verdict("guard", "guard_request", "pass", 0.25),),
        "findings": (Finding("email", "messages[0].content", "pii", "mask"),),
        "notes": {}, "cost_nano": 2_500_000_000, "policy": "0123456789abcdef",
    }  # fmt: skip
    return record(**{**known, **fields})


def eventually(holds: Callable[[], Any]) -> None:
    """Wait until ``holds()``; raises when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.01)
