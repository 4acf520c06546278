"""The values that travel through the hook chain: all frozen, so a hook returns the next one instead of editing."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from proxy.bridge.settings import Bridge
from proxy.dialect import Dialect
from proxy.errors import ConfigError
from proxy.frozen import FrozenDict, freeze
from proxy.secret import Secret
from proxy.signing import Signer
from proxy.texts import Text, texts

Endpoint: TypeAlias = Literal["completions", "chat", "embeddings", "models", "model"]
#: The endpoints that can answer with a stream.
STREAMED: Final[tuple[Endpoint, ...]] = ("completions", "chat")
#: The endpoints that are read with GET and take no body.
BODILESS: Final = frozenset({"models", "model"})
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


class Breaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an upstream is left alone: after so many ``failures`` in a row, for so many ``seconds``."""

    failures: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for values that could do nothing."""
        if self.failures < 1 or not self.seconds > 0:
            raise ConfigError(
                f"breaker = {{ failures = {self.failures}, seconds = {self.seconds} }}: write numbers above zero,"
                " or remove breaker to try every time"
            )


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
    trace: bool = False
    pass_headers: tuple[str, ...] = ()
    reply_headers: tuple[str, ...] = ()
    settings: Mapping[str, str] = _EMPTY
    bridge: Bridge = Bridge()
    breaker: Breaker | None = None


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
    tries: int = 10


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

    ``message`` is shown to the caller: say what to do, and never repeat what was found. ``type`` is the
    error's type on the wire, chosen by the status when None; ``headers`` go with the answer: ``x-*``,
    ``retry-after`` and ``retry-after-ms``, which also tells SDKs that another try can help.
    """

    message: str
    code: str = "content_policy_violation"
    param: str | None = None
    status: int = 400
    type: str | None = None
    headers: Mapping[str, str] = _EMPTY


class Admission(Struct, frozen=True):
    """What ``admit`` granted; ``reply_headers`` (``x-*``) go with the answer, before the upstream's of that name."""

    reply_headers: Mapping[str, str] = _EMPTY


class Choice(Struct, frozen=True, kw_only=True):
    """Where ``choose_upstream`` sends a call, and when it wants to be asked again.

    ``target`` tells several choices of one upstream apart in ``failures``. ``body`` holds the keys that are other
    for this upstream; what they say is judged before it is sent. The try begins ``after`` seconds, and ``timeout``
    is the time in seconds to the head of its answer, where it is shorter than the upstream's own.
    Another choice is asked for when the call cannot have arrived, when the answer's status is one of ``again_on``,
    and with ``again_unanswered`` also when it may have arrived and nothing usable came back.
    ``reply_headers`` (``x-*``) go with the answer. With ``from_caller`` a ``body`` that is not taken is the caller's
    mistake (400), not the plugin's.
    """

    upstream: str
    target: str = ""
    body: Mapping[str, Any] = _EMPTY
    after: float = 0.0
    timeout: float | None = None
    again_on: frozenset[int] = frozenset()
    again_unanswered: bool = False
    reply_headers: Mapping[str, str] = _EMPTY
    from_caller: bool = False


class Provider(Struct, frozen=True, kw_only=True):
    """How one kind of upstream is spoken to: data, not code.

    ``paths`` maps an endpoint to its path below the base URL; an endpoint that is missing is not offered.
    ``{model}`` in it is the model of the call, ``{id}`` the one in the path of ``GET /v1/models/{id}``. The base URL,
    paths and ``headers`` may hold ``{name}`` of ``settings``, whose values are defaults, or None for what the
    operator must say. The credential is sent as ``credential_header: credential_prefix + key``.
    ``fill_in`` is the path of a route of its own for completions with a ``suffix``. ``bridge`` is how completions
    become chats where the operator says nothing else. ``dialect`` translates chats for a provider that does not
    speak OpenAI's; ``sign`` makes what signs each request, where no header with a credential will do.
    ``credential_variable`` (where its users keep their key), ``title``, ``documentation`` (addresses), ``extras``
    (parameters beyond OpenAI's) and ``quirks`` (sentences) are for people.
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
    credential_variable: str = ""
    headers: Mapping[str, str] = _EMPTY
    settings: Mapping[str, str | None] = _EMPTY
    fill_in: str | None = None
    bridge: Bridge = Bridge()
    dialect: Dialect | None = None
    sign: Signer | None = None
    title: str = ""
    documentation: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
