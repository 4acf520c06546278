"""Runs a policy test, and says where what was found differs from what was expected."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy import jsonio
from proxy.model import Call
from proxy.patterns import linear
from proxy.rehearsal.cases import Case, Expect, Words
from proxy.rehearsal.judging import Judge, Judgement, Refusal
from proxy.texts import texts

#: Who refuses where no plugin does.
GATEWAY: Final = "gateway"
_OF_A_REFUSAL: Final = ("by", "code", "param", "status")


class Mismatch(Struct, frozen=True):
    """One thing that is not as expected."""

    what: str
    expected: str
    found: str


class Outcome(Struct, frozen=True):
    """A case that was run; it passed if there is no mismatch."""

    case: Case
    judgement: Judgement
    mismatches: tuple[Mismatch, ...]


def run(judge: Judge, case: Case) -> Outcome:
    """Judge the call of a case, and its reply if there is one."""
    call = case.call.replace(principal=judge.principal(case.call.principal))
    judgement = judge.request(call)
    if judgement.call is not None and (case.written.echo or case.written.reply is not None):
        data = jsonio.encode(_reply(case, judgement.call))
        judgement = judge.reply(judgement, case.written.status, data, judgement.vault)
    return Outcome(case, judgement, tuple(_mismatches(case.written.expect, judgement)))


def _reply(case: Case, sent: Call) -> Any:
    reply = case.written.reply
    if isinstance(reply, dict):
        return reply
    text = _said(sent) if reply is None else reply
    envelope = {"id": "rehearsal", "created": 0, "model": sent.model}
    if sent.endpoint == "chat":
        told: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    else:
        told = {"text": text, "logprobs": None}
    return {**envelope, "choices": [{"index": 0, "finish_reason": "stop", **told}]}


def _said(call: Call) -> str:
    """The last text of a body, which is what a model would answer to."""
    places = [text for text in texts(call.body) if not text.is_key and text.place[0] != "model"]
    spoken = [text.value for text in places if text.place[-1] != "role"]
    return spoken[-1] if spoken else ""


def _mismatches(expect: Expect, found: Judgement) -> Iterator[Mismatch]:
    refusal = found.refusal or found.reply_refusal
    wants_refusal = any(getattr(expect, name) is not None for name in _OF_A_REFUSAL)
    verdict = expect.verdict or ("denied" if wants_refusal and expect.reply is None else None)
    told = found.refusal if expect.reply is None else refusal
    if verdict is not None and verdict != _verdict(found):
        yield Mismatch("verdict", verdict, _told(found.refusal))
        if verdict == "denied":
            return
    yield from _of_refusal(expect, told)
    if expect.reply is not None and expect.reply != _reply_verdict(found):
        answered = _reply_verdict(found)
        why = f": {_told(found.reply_refusal)}" if found.reply_refusal else ""
        yield Mismatch("reply", expect.reply, answered + why)
    if expect.findings is not None:
        yield from _of_findings(expect.findings, found)
    if expect.sent is not None:
        yield from _of_words("sent", expect.sent, found.sent, "nothing left")
    if expect.shown is not None:
        yield from _of_words("shown", expect.shown, found.shown, "nothing was shown")


def _verdict(found: Judgement) -> str:
    return "denied" if found.refusal is not None else "allowed"


def _reply_verdict(found: Judgement) -> str:
    if not found.answered:
        return "no reply"
    return "denied" if found.reply_refusal is not None else "shown"


def _told(refusal: Refusal | None) -> str:
    if refusal is None:
        return "allowed"
    return f"denied by {refusal.by or GATEWAY} ({refusal.code}): {refusal.message}"


def _of_refusal(expect: Expect, refusal: Refusal | None) -> Iterator[Mismatch]:
    for name in _OF_A_REFUSAL:
        wanted = getattr(expect, name)
        if wanted is None:
            continue
        found = None if refusal is None else getattr(refusal, name)
        if name == "by" and refusal is not None:
            found = refusal.by or GATEWAY
        if wanted != found:
            yield Mismatch(name, str(wanted), "-" if found is None else str(found))


def _of_findings(
    wanted: tuple[str, ...] | Mapping[str, str], found: Judgement
) -> Iterator[Mismatch]:
    pairs = {(finding.kind, finding.action) for finding in found.findings}
    if isinstance(wanted, Mapping):
        expected = {f"{kind} {action}" for kind, action in wanted.items()}
        actual = {f"{kind} {action}" for kind, action in pairs}
    else:
        expected, actual = set(wanted), {kind for kind, _ in pairs}
    if expected != actual:
        yield Mismatch("findings", _listed(expected), _listed(actual))


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _of_words(side: str, wanted: Words, body: Any, nothing: str) -> Iterator[Mismatch]:
    if body is None:
        yield Mismatch(side, "a body", nothing)
        return
    found = list(texts(body))
    said = "\n".join(text.value for text in found)
    shown = "\n".join(text.value for text in found if not text.is_key)
    missing = [(f"{side}.contains", text) for text in wanted.contains if text not in said]
    missing += [(f"{side}.lacks", f"not: {text}") for text in wanted.lacks if text in said]
    missing += [
        (f"{side}.matches", pattern)
        for pattern in wanted.matches
        if not linear(pattern).search(said)
    ]
    yield from (Mismatch(what, text, shown) for what, text in missing)
    for name, value in wanted.body.items():
        there = body.get(name) if isinstance(body, Mapping) else None
        if there != value:
            yield Mismatch(f"{side}.body.{name}", _json(value), _json(there))


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
