"""What a chain decided about a call, in words without content, and where two chains differ."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from proxy.frozen import FrozenDict
from proxy.rehearsal.judging import Judgement, counted, fingerprint

Verdict = Literal["allowed", "denied"]
Reply = Literal["unjudged", "shown", "denied"]
#: In what two decisions can differ, the weightiest first.
ASPECTS: Final = ("verdict", "reply", "body", "findings")
_LONGEST: Final = 64


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one chain made of one call; no content, and no digest of one.

    ``by`` is the plugin that refused (none where the gateway itself did), ``findings`` counts what was found in the
    request as ``kind action``, None where that is not known; ``reply`` is what became of a whole reply.
    """

    verdict: Verdict
    by: str | None = None
    code: str | None = None
    findings: Mapping[str, int] | None = FrozenDict()
    reply: Reply = "unjudged"
    reply_by: str | None = None
    reply_code: str | None = None


class Judged(Struct, frozen=True, kw_only=True):
    """A decision, and what only serves to compare it: what left and what was shown, masks put back."""

    decision: Decision
    body: str | None = None
    shown: Any = None


def denied(
    by: str | None, code: str | None, findings: Mapping[str, int] = FrozenDict()
) -> Decision:
    """The decision that a refusal of a request is."""
    return Decision(verdict="denied", by=by, code=clipped(code), findings=findings)


def judged(judgement: Judgement, *, as_sent: bool = False) -> Judged:
    """What a judgement comes to; with ``as_sent`` a body that is masked is another one than it was."""
    refusal, reply = judgement.refusal, judgement.reply_refusal
    found = counted(judgement.findings)
    if refusal is not None:
        return Judged(decision=denied(refusal.by, refusal.code, found))
    decision = Decision(
        verdict="allowed",
        findings=found,
        reply="unjudged" if not judgement.answered else "denied" if reply else "shown",
        reply_by=reply.by if reply else None,
        reply_code=clipped(reply.code) if reply else None,
    )
    body = fingerprint(judgement.sent, None if as_sent else judgement.vault)
    return Judged(decision=decision, body=body, shown=judgement.shown)


def differences(one: Judged, other: Judged) -> tuple[str, ...]:
    """In what two judgements of the same call differ, of ``ASPECTS``; empty where they agree.

    What stands behind a refusal is not compared: it was not looked at to the end.
    """
    a, b = one.decision, other.decision
    if (a.verdict, a.by, a.code) != (b.verdict, b.by, b.code):
        return ("verdict",)
    known = a.findings is not None and b.findings is not None
    found = ["findings"] if known and dict(a.findings or {}) != dict(b.findings or {}) else []
    if a.verdict == "denied":
        return tuple(found)
    both = "unjudged" not in (a.reply, b.reply)
    told = (a.reply, a.reply_by, a.reply_code) != (b.reply, b.reply_by, b.reply_code)
    if both and (told or (a.reply == "shown" and one.shown != other.shown)):
        found.append("reply")
    if one.body is not None and other.body is not None and one.body != other.body:
        found.append("body")
    return tuple(aspect for aspect in ASPECTS if aspect in found)


def clipped(code: str | None) -> str | None:
    """A code that a plugin chose, no longer than a line takes."""
    return None if code is None else code[:_LONGEST]
