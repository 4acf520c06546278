"""What tests of the console begin with: a trail with records of any time, and a gateway that shows it."""

import http.client
import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from proxy.audit.records import SUFFIX, new_name, signed_line
from tests.gateway import Answer, Gateway, gateway

TOKEN: Final = "console-token-0123456789abcdef"
#: A record: when it was written (seconds since 1970), kind, body.
Written = tuple[float, str, Mapping[str, Any]]


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def write_segment(directory: Path, records: Iterable[Written]) -> Path:
    """A segment with these records; nobody could verify it, and the console does not."""
    records = list(records)
    begun = datetime.fromtimestamp(records[0][0], UTC) if records else None
    path = directory / f"{new_name(begun)}{SUFFIX}"
    append(path, records)
    if records:  # or a gateway would write the calls of a dead process off
        append(path, [(records[-1][0], "closed", {})], len(records))
    return path


def append(path: Path, records: Iterable[Written], seq: int = 0) -> None:
    with path.open("ab") as file:
        for number, (at, kind, body) in enumerate(records, seq):
            head = f'{{"seq":{number},"time":"{iso(at)}","mono":1.5,"kind":"{kind}","body":'
            file.write(signed_line(head.encode() + json.dumps(body).encode(), bytes(32)))


def outcome(id_: str, at: float, **fields: Any) -> Written:
    """The record of a call that ended at ``at``."""
    base = {"id": id_, "time": iso(at - 0.5), "endpoint": "chat", "outcome": "ok", "status": 200}
    return at, "outcome", {**base, "seconds": 0.5, "principal": "alice", "model": "m", **fields}


@contextmanager
def shown(directory: Path | None, **sections: Any) -> Iterator[Gateway]:
    """A gateway with the console, over the trail in ``directory``."""
    os.environ["TEST_CONSOLE_TOKEN"] = TOKEN
    console = {"token": {"env": "TEST_CONSOLE_TOKEN"}, **sections.pop("console", {})}
    audit: dict[str, Any] = {} if directory is None else {"audit": {"directory": str(directory)}}
    with gateway(console=console, **audit, **sections) as gate:
        yield gate


def look(
    gate: Gateway,
    path: str = "/console",
    headers: Sequence[tuple[str, str]] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> Answer:
    """A page, by default with the token; ``body`` is a form."""
    given = [("Authorization", f"Bearer {TOKEN}")] if headers is None else list(headers)
    if not any(name == "Host" for name, _ in given):
        given.append(("Host", f"127.0.0.1:{gate.port}"))
    if body is not None:
        given.append(("Content-Type", "application/x-www-form-urlencoded"))
    return asked(gate, path, given, method, body or b"")


def asked(
    gate: Gateway, path: str, headers: Sequence[tuple[str, str]], method: str, body: bytes
) -> Answer:
    """As ``Gateway.ask``, with the host as it is given."""
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body or method == "POST":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        reply = connection.getresponse()
        return Answer(reply.status, reply.getheaders(), reply.read())
    finally:
        connection.close()


def a_day(now: float, calls: int, seed: int = 7) -> list[Written]:
    """Records of a day as it might be, the oldest first."""
    chance = random.Random(seed)
    times = sorted(now - 86_300 * share for share in _busy(chance, calls))
    return [record for number, at in enumerate(times) for record in _call(chance, number, at)]


def _busy(chance: random.Random, calls: int) -> Iterator[float]:
    """Moments of a day, as shares of it before now; most of them in the last hours."""
    while calls:
        share = chance.random()
        if chance.random() < 0.12 + math.exp(-((share - 0.12) ** 2) / 0.03):
            calls -= 1
            yield share


_WHO: Final = {
    "alice": "research",
    "bob": "research",
    "support-bot": "support",
    "nightly-batch": "data",
    "carol": "legal",
}
_MODELS: Final = ("gpt-5", "gpt-5-mini", "claude-sonnet-5", "llama-4-70b")
_KINDS: Final = ("email", "iban", "aws-access-key-id", "phone", "person", "github-token")


def _call(chance: random.Random, number: int, at: float) -> Iterator[Written]:
    id_ = f"req_{chance.getrandbits(128):032x}"
    who = chance.choice(list(_WHO))
    stream, took = chance.random() < 0.6, chance.lognormvariate(0.7, 0.7)
    added = chance.lognormvariate(0.9, 0.4) / 1000
    result = chance.choices(
        ["ok", "denied", "upstream_error", "truncated", "client_gone", "recovered"],
        [85, 9, 2.5, 1, 2, 0.5],
    )[0]
    base = {
        "id": id_,
        "time": iso(at - took),
        "endpoint": chance.choice(["chat", "chat", "completions", "embeddings"]),
        "principal": who,
        "groups": ["everyone", _WHO[who]],
        "metadata": {"key": f"og_{who[:4]}_{number % 7:02d}", "team": _WHO[who]},
        "model": chance.choice(_MODELS),
        "stream": stream,
        "client": f"10.20.{number % 4}.{number % 250}",
        "policy": "3e55a1c0b7d94f21",
        "bytes_in": int(chance.lognormvariate(7.5, 1)),
        "digest": f"{chance.getrandbits(256):064x}",
    }
    sent = {**base, "bytes_sent": base["bytes_in"], "upstream": "main"}
    if result == "recovered":
        yield at - took, "intent", sent
        yield (
            at,
            "recovered",
            {
                "id": id_,
                "outcome": "recovered",
                "found_in": "-",
                "intent": {"time": iso(at - took)},
            },
        )
        return
    findings = _found(chance, denied=result == "denied")
    verdicts = _verdicts(chance, denied=result == "denied")
    if result == "denied":
        reason = chance.choice(
            ["content_policy_violation"] * 5 + ["insufficient_quota", "rate_limit_exceeded"]
        )
        by = {"content_policy_violation": "policy", "insufficient_quota": "budget"}.get(
            reason, "rate_limit"
        )
        denial = {
            "status": 400,
            "code": reason,
            "denied_by": by,
            "seconds": added,
            "proxy_seconds": added,
        }
        yield (
            at,
            "outcome",
            {**base, "outcome": result, **denial, "findings": findings, "verdicts": verdicts},
        )
        return
    yield at - took, "intent", sent
    prompt, written = int(chance.lognormvariate(6, 1)), int(chance.lognormvariate(5, 1))
    yield (
        at,
        "outcome",
        {
            **sent,
            "outcome": result,
            "status": 502 if result == "upstream_error" else 200,
            **({"code": "upstream_unavailable"} if result == "upstream_error" else {}),
            "seconds": round(took, 6),
            "proxy_seconds": round(added, 6),
            "sent_seconds": round(added * 0.8, 6),
            "first_byte_seconds": round(took * (0.3 if stream else 0.98), 6),
            "upstream_seconds": round(took * 0.25, 6),
            "upstream_address": "203.0.113.7:443",
            "upstream_status": 200,
            "upstream_request_id": f"req_up_{number}",
            "attempts": 1,
            "bytes_out": written * 5,
            "events": written if stream else 0,
            "completion_characters": written * 4,
            "finish_reasons": ["stop"],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": written,
                "total_tokens": prompt + written,
            },
            "verdicts": verdicts,
            "findings": findings,
            "cost_nano": (prompt + written * 4) * 1200,
        },
    )


def _found(chance: random.Random, *, denied: bool) -> list[dict[str, str]]:
    many = chance.choices([0, 1, 2, 4], [2, 5, 2, 1] if denied else [86, 9, 4, 1])[0]
    found = []
    for _ in range(many):
        kind = chance.choices(_KINDS, [40, 15, 6, 20, 15, 4])[0]
        secret = kind in ("aws-access-key-id", "github-token")
        action = "deny" if denied and secret else "mask" if not secret else "redact"
        place = chance.choice(
            ["messages[0].content", "messages[2].content", "tools[1].description"]
        )
        found.append(
            {
                "kind": kind,
                "place": place,
                "plugin": "secrets" if secret else "pii",
                "action": action,
            }
        )
    return found


def _verdicts(chance: random.Random, *, denied: bool) -> list[dict[str, Any]]:
    steps = [
        ("static_keys", "identify", "pass"),
        ("prompt_template", "rewrite_request", chance.choice(["rewrite", "pass"])),
        ("regex_guard", "guard_request", "pass"),
        ("keywords", "guard_request", "monitor:deny" if chance.random() < 0.1 else "pass"),
        ("policy", "detectors", "deny" if denied else "pass"),
    ]
    return [
        {
            "plugin": plugin,
            "hook": hook,
            "verdict": word,
            "milliseconds": round(chance.lognormvariate(-2, 0.8), 3),
            **({"detail": "2 findings"} if word == "deny" else {}),
        }
        for plugin, hook, word in steps
    ]
