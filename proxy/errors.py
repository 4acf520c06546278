"""Every error Outgate raises, and the OpenAI-shaped body each becomes on the wire.

OutgateError
├── ConfigError          the operator's mistake; stops the start
├── Unavailable          what a plugin needs is away at the moment; the call is refused with 503
├── ApiError             an answer to the caller: status, type, code, param
│   ├── InvalidRequest   400, the caller's mistake
│   └── Unauthenticated  401, one constant body
└── UpstreamError        the upstream did not answer, or not in a way we understand
"""

import difflib
from collections.abc import Iterable
from typing import Any, Literal


class OutgateError(Exception):
    """The root of all errors that Outgate raises on purpose."""


class ConfigError(OutgateError):
    """A configuration that must not start; the message names key, value, remedy and nearest name."""


class Unavailable(OutgateError):
    """Raised by a hook that cannot decide now because something it needs does not answer.

    The call is refused with 503 and ``retry-after`` (seconds); ``message`` is told to the caller and the log,
    so it holds no secret.
    """

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class ApiError(OutgateError):
    """An error the caller is told about.

    ``message`` reaches the caller: it holds no secret and no text of another caller.
    ``retry_after`` (seconds) and ``retry`` mark what another try can cure; everything else carries
    ``x-should-retry: false``, because the OpenAI SDKs would try some statuses again by themselves.
    """

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,  # noqa: A002 - the field's name on the wire
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.type = type or self.type
        self.code = code or self.code
        self.param = param
        self.retry_after = retry_after
        self.retry = retry

    def body(self) -> dict[str, Any]:
        """The error envelope of the OpenAI API reference: message, type, param, code."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """The headers that tell an SDK whether to try again."""
        if self.retry_after is not None:
            return {"retry-after": str(self.retry_after)}
        return {} if self.retry else {"x-should-retry": "false"}


class InvalidRequest(ApiError):
    """The caller's request cannot be accepted as it is; sending it again will not help."""

    status = 400
    type = "invalid_request_error"
    code: str | None = None


class Unauthenticated(ApiError):
    """No known key: always the same answer, whatever was wrong with the credential."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided. Ask the operator of this gateway for a key.")


class UpstreamError(OutgateError):
    """The upstream could not be reached, or answered in a way that is not passed on.

    ``kind`` is one of the words in ``proxy.egress.client``; ``detail`` never holds a credential.
    """

    def __init__(self, kind: str, detail: str, *, bytes_received: bool = False) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.bytes_received = bytes_received


def as_api_error(error: UpstreamError) -> ApiError:
    """What the caller is told of an upstream that failed; the detail stays in the log."""
    match error.kind:
        case "timeout_connect" | "timeout_first_byte" | "timeout_idle" | "deadline":
            return ApiError(
                "The upstream did not answer in time.",
                status=504,
                code="upstream_timeout",
                retry=True,
            )
        case "draining":
            return ApiError(
                "This gateway is restarting; try again.", status=503, code="draining", retry_after=1
            )
        case "client_gone":
            return ApiError("The caller hung up.", status=499, code="client_gone")
        case "redirect":
            return ApiError(
                "The upstream sent a redirect, which is never followed.",
                status=502,
                code="upstream_redirect",
            )
        case "cut":
            return ApiError(
                "The upstream's answer ended early.",
                status=502,
                code="upstream_truncated",
                retry=True,
            )
        case _:
            message = "The upstream could not be reached or gave no usable answer."
            return ApiError(message, status=502, code="upstream_error", retry=True)


def outcome_of(error: UpstreamError) -> Literal["client_gone", "denied", "upstream_error"]:
    """How a call ends that this error ended before anything of the answer was passed on."""
    if error.kind == "client_gone":
        return "client_gone"
    return "denied" if error.kind == "draining" else "upstream_error"


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
