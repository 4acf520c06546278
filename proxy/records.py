"""What is told of a call when it is over: no content and no credential, ever."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from proxy.frozen import FrozenDict
from proxy.model import Action, Deny, Endpoint, Outcome

_EMPTY: Final = FrozenDict()


class Failure(Struct, frozen=True, omit_defaults=True):
    """One try that gave no answer, or one that was not passed on; ``choose_upstream`` is shown all of them.

    ``kind`` is that of the ``UpstreamError``, ``status`` for an answer with this ``status``, or ``circuit_open``
    for an upstream that was left alone. ``retry_after`` is what the upstream asked for, in seconds.
    """

    upstream: str
    kind: str
    detail: str
    target: str = ""
    status: int | None = None
    retry_after: float | None = None


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens as the upstream counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None


class Finding(Struct, frozen=True):
    """Something a detector found: what, where, by whom, and what became of it; never the text itself."""

    kind: str
    place: str
    plugin: str
    action: Action


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What one plugin did in one hook."""

    plugin: str
    hook: str
    verdict: str
    milliseconds: float
    detail: str | None = None


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one call when it is over; no content and no credential, ever.

    ``digest`` is the SHA-256 of the body that was sent, ``bytes_in`` and ``bytes_out`` are the sizes
    of the body read from and the reply handed to the caller, ``seconds`` is wall time from first to last byte,
    ``first_byte_seconds`` until the first byte of the reply, ``sent_seconds`` until it was sent on, ``proxy_seconds``
    without what was waited for the upstream and the caller. ``completion_characters`` counts the text that
    the upstream wrote, ``metadata`` is what is known of the principal,
    ``cost_nano`` what ``[[prices]]`` makes of the usage, in 1e-9 of the currency. ``bridged`` is the number of
    chats the call was sent as, ``bridged_digest`` the SHA-256 of their bodies. Where ``answered_by`` names a plugin,
    it answered instead of an upstream: nothing was sent, nothing is to be paid, and ``usage`` is what its answer says.
    """

    id: str
    time: str
    endpoint: Endpoint
    outcome: Outcome
    status: int
    seconds: float
    principal: str | None = None
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, str] = _EMPTY
    model: str | None = None
    stream: bool = False
    client: str | None = None
    code: str | None = None
    denied_by: str | None = None
    answered_by: str | None = None
    upstream: str | None = None
    upstream_address: str | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    upstream_seconds: float | None = None
    first_byte_seconds: float | None = None
    sent_seconds: float | None = None
    proxy_seconds: float | None = None
    attempts: int = 0
    failures: tuple[Failure, ...] = ()
    retry_count: int = 0
    digest: str | None = None
    bridged: int = 0
    bridged_digest: str | None = None
    bytes_in: int = 0
    bytes_sent: int = 0
    bytes_out: int = 0
    events: int = 0
    completion_characters: int = 0
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    cost_nano: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    removed: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None


class Denial(Struct, frozen=True):
    """What ``rewrite_denial`` is told of a refusal: by which plugin, for what, before or after an answer.

    ``findings`` are all of the call, whatever became of them; those that were denied have this action.
    """

    deny: Deny
    by: str
    findings: tuple[Finding, ...] = ()
    answered: bool = False
