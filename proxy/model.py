"""The values that travel through the hook chain: all frozen, so a hook returns the next one instead of editing."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from proxy.frozen import FrozenDict, freeze
from proxy.secret import Secret
from proxy.texts import Text, texts

Endpoint: TypeAlias = Literal["completions", "chat", "embeddings", "models", "model"]
#: The endpoints that can answer with a stream.
STREAMED: Final[tuple[Endpoint, ...]] = ("completions", "chat")
Outcome: TypeAlias = Literal[
    "ok", "denied", "upstream_error", "truncated", "client_gone", "recovered"
]
Action: TypeAlias = Literal["allow", "monitor", "mask", "redact", "deny"]
KiB: Final = 1024
MiB: Final = 1024 * KiB

_EMPTY: Final = FrozenDict()


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines of one call to an upstream, in seconds."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    total: float = 600.0


class Upstream(Struct, frozen=True, kw_only=True):
    """One place the operator lets calls go to."""

    name: str
    provider: str
    base_url: str
    credential: Secret | None = None
    allow_private: bool = False
    timeouts: Timeouts = Timeouts()
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    outbound_proxy: Secret | None = None
    pass_caller_credential: bool = False
    strict: bool = False
    pass_headers: tuple[str, ...] = ()
    reply_headers: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one call may cost us; sizes in bytes, times in seconds."""

    body_bytes: int = 2 * MiB
    reply_bytes: int = 64 * MiB
    event_bytes: int = 1 * MiB
    depth: int = 64
    call_seconds: float = 900.0
    hook_seconds: float = 5.0
    client_idle: float = 60.0
    concurrent_calls: int | None = None
    hung_hooks: int = 8


class Principal(Struct, frozen=True):
    """Who calls: never the key itself, only the name the operator gave it."""

    name: str
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, str] = _EMPTY


class Credentials(Struct, frozen=True, kw_only=True):
    """What the caller showed: ``caller`` says who it is, ``provider`` is its own key for the upstream."""

    caller: Secret | None = None
    provider: Secret | None = None


class Request(Struct, frozen=True, kw_only=True):
    """What ``identify`` sees: the one hook that is shown credentials."""

    id: str
    endpoint: Endpoint
    headers: Mapping[str, str]
    credentials: Credentials
    client: str


class Call(Struct, frozen=True, kw_only=True):
    """One accepted call. ``id``, ``endpoint`` and ``principal`` stay what they are from start to end."""

    id: str
    endpoint: Endpoint
    body: Mapping[str, Any]
    principal: Principal
    headers: Mapping[str, str] = _EMPTY
    model: str | None = None
    stream: bool = False
    deadline: float = 0.0
    reply_headers: Mapping[str, str] = _EMPTY
    notes: Mapping[str, Any] = _EMPTY

    def replace(self, **changes: Any) -> "Call":
        """This call with some fields changed; a new body is frozen, and ``model`` and ``stream`` follow it."""
        for name in ("body", "reply_headers", "notes"):
            if name in changes:
                changes[name] = freeze(changes[name])
        if "body" in changes:
            body = changes["body"]
            changes.setdefault(
                "model", body.get("model", self.model) if self.endpoint != "model" else self.model
            )
            changes.setdefault("stream", body.get("stream") is True)
        return msgspec.structs.replace(self, **changes)

    def with_body(self, **changes: Any) -> "Call":
        """This call with some keys of its body set."""
        return self.replace(body={**self.body, **changes})

    def note(self, **notes: Any) -> "Call":
        """This call with notes added; they reach the record, never the upstream."""
        return self.replace(notes={**self.notes, **notes})

    def texts(self) -> Iterator[Text]:
        """Every string and every key of the body: the one way a guardrail should read it."""
        return texts(self.body)

    def seconds_left(self) -> float:
        """Time until the call's total deadline, in seconds; never below zero."""
        return max(0.0, self.deadline - time.monotonic())


class Reply(Struct, frozen=True, kw_only=True):
    """A complete answer of the upstream, as ``rewrite_response`` sees it."""

    status: int
    body: Any
    headers: Mapping[str, str] = _EMPTY
    notes: Mapping[str, Any] = _EMPTY

    def replace(self, **changes: Any) -> "Reply":
        """This reply with some fields changed; a new body is frozen."""
        for name in ("body", "notes"):
            if name in changes:
                changes[name] = freeze(changes[name])
        return msgspec.structs.replace(self, **changes)

    def with_body(self, **changes: Any) -> "Reply":
        """This reply with some keys of its body set."""
        return self.replace(body={**self.body, **changes})

    def texts(self) -> Iterator[Text]:
        """Every string and every key of the body."""
        return texts(self.body)


class Deny(Struct, frozen=True):
    """A guardrail's refusal; final, whatever later plugins think.

    ``message`` is shown to the caller: say what to do, and never repeat what was found.
    """

    message: str
    code: str = "content_policy_violation"
    param: str | None = None
    status: int = 400


class Denial(Struct, frozen=True):
    """What ``rewrite_denial`` is told of a refusal: by which plugin, for what, before or after an answer.

    ``findings`` are all of the call, whatever became of them; those that were denied have this action.
    """

    deny: Deny
    by: str
    findings: tuple["Finding", ...] = ()
    answered: bool = False


class Failure(Struct, frozen=True):
    """One upstream that was tried and did not answer; ``choose_upstream`` is shown all of them."""

    upstream: str
    kind: str
    detail: str


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens as the upstream counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


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
    of the body read from and the reply handed to the caller, ``seconds`` is wall time from first to last byte.
    """

    id: str
    time: str
    endpoint: Endpoint
    outcome: Outcome
    status: int
    seconds: float
    principal: str | None = None
    groups: tuple[str, ...] = ()
    model: str | None = None
    stream: bool = False
    client: str | None = None
    code: str | None = None
    denied_by: str | None = None
    upstream: str | None = None
    upstream_address: str | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    upstream_seconds: float | None = None
    attempts: int = 0
    failures: tuple[Failure, ...] = ()
    retry_count: int = 0
    digest: str | None = None
    bytes_in: int = 0
    bytes_sent: int = 0
    bytes_out: int = 0
    events: int = 0
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    removed: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None


class Provider(Struct, frozen=True, kw_only=True):
    """How one kind of upstream is spoken to: data, not code.

    ``paths`` maps an endpoint to its path below the base URL; an endpoint that is missing is not offered.
    The credential is sent as ``credential_header: credential_prefix + key``.
    """

    name: str
    base_url: str | None = None
    paths: Mapping[str, str] = field(
        default_factory=lambda: FrozenDict(
            completions="/completions",
            chat="/chat/completions",
            embeddings="/embeddings",
            models="/models",
            model="/models/{id}",
        )
    )
    credential_header: str = "authorization"
    credential_prefix: str = "Bearer "
