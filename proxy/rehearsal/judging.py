"""Judges one call by a configuration, offline: what would leave, who would refuse it, what would be shown."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from msgspec import Struct, structs

from proxy import jsonio
from proxy.edits import is_json
from proxy.egress import UpstreamReply
from proxy.errors import ApiError, UpstreamError, as_api_error
from proxy.exchange import Denied, Exchange
from proxy.intake import Intake
from proxy.mask import Vault
from proxy.model import Call, Principal, Upstream
from proxy.reading import peek
from proxy.records import Finding, Verdict
from proxy.rehearsal.loading import Candidate
from proxy.relay import Relay
from proxy.steps import Running
from proxy.texts import replace, texts

#: Nothing is sent there: a reply needs an upstream whose headers may be shown.
_NOWHERE: Final = Upstream(
    name="rehearsal", provider="rehearsal", base_url="https://rehearsal.invalid"
)
_OK: Final = 200


class Refusal(Struct, frozen=True, kw_only=True):
    """Who refuses and how the caller would be told; ``by`` is None where the gateway itself does."""

    by: str | None
    code: str
    status: int
    message: str
    param: str | None = None


class Judgement(Struct, frozen=True, kw_only=True):
    """What became of one call: ``sent`` is the body that would leave, None where it was refused before.

    ``findings`` are those of the request, ``reply_findings`` those of the reply; ``shown`` is the body of the
    reply as the caller would get it, and ``answered`` says whether there was a reply to judge.
    """

    refusal: Refusal | None
    sent: Any = None
    call: Call | None = None
    vault: Vault | None = None
    findings: tuple[Finding, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    answered: bool = False
    reply_refusal: Refusal | None = None
    reply_findings: tuple[Finding, ...] = ()
    shown: Any = None


class Judge:
    """Judges any number of calls by one candidate, each by itself; may be used by one thread at a time.

    Only ``rewrite_request``, ``guard_request``, the detectors and ``rewrite_response`` are run. What a broken part
    of the gateway raises is raised here, too; what a plugin raises is its verdict.
    """

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self._intake = Intake(candidate.parts)
        self._relay = Relay(candidate.parts)
        self._seconds = candidate.parts.config.limits.call_seconds

    def principal(self, principal: Principal) -> Principal:
        """The principal with the teams above its own, as ``identify`` gives it."""
        groups = self.candidate.parts.teams.closed(principal.groups)
        return structs.replace(principal, groups=groups)

    def request(self, asked: Call) -> Judgement:
        """Judge a call as the intake accepts it."""
        exchange = self._exchange(asked)
        # The time that is left counts from now: the call itself may be long over.
        asked = structs.replace(asked, deadline=time.monotonic() + self._seconds)
        refusal, sent, call = None, None, None
        try:
            call, _ = self._intake.judged(asked, exchange)
            sent = call.body
        except ApiError as error:
            refusal = self._refusal(error)
        return Judgement(
            refusal=refusal,
            sent=sent,
            call=call,
            vault=exchange.vault,
            findings=tuple(exchange.trail.findings),
            verdicts=tuple(self._own(exchange.trail.verdicts)),
        )

    def reply(
        self, judged: Judgement, status: int, data: bytes, vault: Vault | None = None
    ) -> Judgement:
        """Judge a whole reply to a call that would have left; ``vault`` is that of the call it answers."""
        call = judged.call
        if judged.refusal is not None or call is None:
            return judged
        exchange = self._exchange(call)
        exchange.call, exchange.vault = call, vault
        refusal, shown = None, None
        try:
            # Whoever reads it cannot tell it from an upstream's.
            told = cast(UpstreamReply, _Told(data, status))
            answer = self._relay.answer(_NOWHERE, call, told, exchange)
            shown = peek(b"".join(answer.body))
        except UpstreamError as error:
            refusal = self._refusal(as_api_error(error))
        except ApiError as error:
            refusal = self._refusal(error)
        return structs.replace(
            judged,
            answered=True,
            reply_refusal=refusal,
            reply_findings=tuple(exchange.trail.findings),
            verdicts=(*judged.verdicts, *self._own(exchange.trail.verdicts)),
            shown=shown,
        )

    def _exchange(self, call: Call) -> Exchange:
        exchange = Exchange(call.endpoint, "rehearsal", Running(), lambda *_: None)
        exchange.id = call.id
        return exchange

    def _refusal(self, error: ApiError) -> Refusal:
        by = self.candidate.label(error.by) if isinstance(error, Denied) else None
        return Refusal(
            by=by,
            code=error.code or error.type,
            status=error.status,
            message=error.message,
            param=error.param,
        )

    def _own(self, verdicts: list[Verdict]) -> Iterator[Verdict]:
        """The verdicts under the names that the file has for its plugins."""
        for verdict in verdicts:
            yield structs.replace(verdict, plugin=self.candidate.label(verdict.plugin))


class _Told(Struct, frozen=True):
    """A whole reply that is here already."""

    data: bytes
    status: int = _OK
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def read(self, _limit: int) -> bytes:
        return self.data


def fingerprint(body: Any, vault: Vault | None) -> str:
    """SHA-256 of a body with what was masked put back: placeholders differ from call to call."""
    if vault is not None and body is not None:
        changes = {}
        for text in texts(body):
            if not text.is_key:
                value = vault.restore(text.value, inside_json=is_json(text.place))
                if value != text.value:
                    changes[text.place] = value
        body = replace(body, changes) if changes else body
    return hashlib.sha256(jsonio.encode(body)).hexdigest()


def counted(findings: tuple[Finding, ...]) -> Mapping[str, int]:
    """How many findings of each kind there are, and what becomes of them: ``email mask`` → 2."""
    return Counter(f"{finding.kind} {finding.action}" for finding in findings)
