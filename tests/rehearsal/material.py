"""What the tests of rehearsals share: a second configuration beside a running gateway."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy import Call, Deny, Reply, hookimpl
from proxy.rehearsal.report import Disagreement, read_report
from tests.gateway import PATIENCE, Gateway, gateway
from tests.upstream import Script

#: The plugin ``Loud`` counts here what it was asked.
asked: list[str] = []

HEAD = """
[access]
anonymous = "anyone"

[upstreams.main]
provider = "openai_compatible"
base_url = "https://llm.example.com/v1"

[[routes]]
upstreams = ["main"]

[[plugins]]
use = "openai_compatible"
"""

TICKETS = """
[[plugins]]
use = "regex_guard"
name = "tickets"
[plugins.options]
patterns = { ticket = 'TICKET-[0-9]{4}' }
"""


@dataclass(frozen=True)
class Loud:
    """Implements every hook that must not be run in a rehearsal, and one that may."""

    breaks: bool = False

    @hookimpl
    def init_app(self) -> None:
        asked.append("init_app")

    @hookimpl
    def admit(self) -> None:
        asked.append("admit")

    @hookimpl
    def choose_upstream(self) -> None:
        asked.append("choose_upstream")

    @hookimpl
    def identify(self) -> None:
        asked.append("identify")

    @hookimpl
    def log_exchange(self) -> None:
        asked.append("log_exchange")

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        asked.append("guard_request")
        if self.breaks:
            raise ValueError("broken")
        return Deny("Not tomorrow.", code="tomorrow") if "later" in str(call.body) else None

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Reply | None:
        asked.append("rewrite_response")
        return reply.with_body(seen=True) if "mark" in str(reply.body) else None


@contextmanager
def shadowed(
    folder: Path,
    following: str,
    *scripts: Script,
    plugins: Sequence[Mapping[str, Any]] = (),
    table: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Iterator[Gateway]:
    """A gateway with ``following`` as its shadow."""
    path = folder / "next.toml"
    path.write_text(HEAD + following)
    shadow = {"config": str(path), "report": str(folder / "shadow.jsonl"), **(table or {})}
    with gateway(*scripts, plugins=plugins, shadow=shadow, **sections) as gate:
        yield gate


def listed(gate: Gateway, folder: Path, calls: int = 1) -> list[Disagreement]:
    """What the shadow of a gateway listed, once it has judged or dropped so many calls."""
    settle(gate, calls)
    found = list(read_report(folder / "shadow.jsonl"))
    assert all(found)
    return [item for item in found if item is not None]


def settle(gate: Gateway, calls: int) -> None:
    """Wait until the shadow has judged or dropped so many calls."""
    deadline = time.monotonic() + PATIENCE
    while sum(gate.pipeline.vitals()[name] for name in ("shadow_calls", "shadow_dropped")) < calls:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def line(**fields: Any) -> str:
    """A sample call as a line of JSON."""
    return json.dumps(fields) + "\n"
