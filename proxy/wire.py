"""Reads a request off the WSGI environment: framing, size, content type, credentials; refuses what is unclear."""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from proxy.errors import ApiError, InvalidRequest, Unauthenticated
from proxy.frozen import FrozenDict
from proxy.model import Credentials, Upstream
from proxy.secret import Secret

#: Headers that may carry a caller's key; the first that is filled says who calls.
KEY_HEADERS: Final = ("x-portkey-api-key", "authorization", "x-api-key", "api-key")
#: Headers every upstream gets when the caller sent them.
PASSED: Final = ("openai-organization", "openai-project", "openai-beta", "idempotency-key")
#: Never shown to a plugin and never sent on.
_HIDDEN: Final = frozenset({*KEY_HEADERS, "cookie", "proxy-authorization"})
#: What SDKs send where no key was given to them.
_DUMMIES: Final = frozenset({"", "OPENAI_API_KEY", "None", "null", "undefined", "dummy"})
_SCHEME: Final = re.compile(r"bearer(?:\s+|$)", re.IGNORECASE)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*\Z")
_LONGEST_KEY: Final = 8192
_LONGEST_ADDRESS: Final = 64
_LONGEST_LENGTH: Final = 18
_CHUNK: Final = 65_536


def read_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """The request's headers by lower-case name.

    A header that came twice is one value joined with commas by now, so a comma where none belongs is a
    duplicate: refused for the content type (``InvalidRequest``) and for credentials, of which nothing is told
    (``Unauthenticated``).
    """
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if content_type := environ.get("CONTENT_TYPE"):
        headers["content-type"] = content_type
    if any("," in headers.get(name, "") for name in KEY_HEADERS):
        raise Unauthenticated
    if "," in headers.get("content-type", ""):
        raise InvalidRequest(
            "The header content-type was sent more than once; send it once.",
            code="duplicate_header",
        )
    return headers


def client_address(environ: Mapping[str, Any], trusted: Collection[str]) -> str:
    """Who is calling: the peer, or what a ``trusted`` peer (the web server in front) says in X-Forwarded-For.

    Only the last address counts: it is the one that the trusted peer wrote itself.
    """
    peer: str = environ.get("REMOTE_ADDR", "")
    if peer not in trusted:
        return peer
    told = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return (_address(told) if len(told) <= _LONGEST_ADDRESS else None) or peer


@lru_cache(1024)
def _address(text: str) -> str | None:
    """An address in its usual form; None for what is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def visible(headers: Mapping[str, str]) -> FrozenDict:
    """The headers without those that carry credentials: what plugins may see."""
    return FrozenDict((name, value) for name, value in headers.items() if name not in _HIDDEN)


def read_credentials(headers: Mapping[str, str]) -> Credentials:
    """Who calls, from any of ``KEY_HEADERS``, with or without ``Bearer``; SDK placeholders count as absent.

    ``x-portkey-api-key`` beside a different ``Authorization`` reads as the caller's key and its own key
    for the provider. Any other pair of different keys is ambiguous: ``InvalidRequest``.
    """
    keys = {name: key for name in KEY_HEADERS if (key := _key(headers.get(name, "")))}
    values = set(keys.values())
    if len(values) <= 1:
        return Credentials(caller=Secret(values.pop())) if values else Credentials()
    if len(keys) == 2 and "x-portkey-api-key" in keys and "authorization" in keys:  # noqa: PLR2004 - a pair
        return Credentials(
            caller=Secret(keys["x-portkey-api-key"]), provider=Secret(keys["authorization"])
        )
    raise InvalidRequest(
        f"Different keys were sent in {' and '.join(keys)}; send one of them.",
        code="ambiguous_credentials",
    )


def _key(value: str) -> str:
    key = _SCHEME.sub("", value.strip(), count=1).strip()
    return "" if key in _DUMMIES else key


def well_formed(key: Secret) -> bool:
    """Whether a key could be one at all: printable ASCII without blanks, of a sane length."""
    text = key.reveal()
    return len(text) <= _LONGEST_KEY and " " not in text and bool(_PRINTABLE.match(text))


def check_media(headers: Mapping[str, str]) -> None:
    """Only uncompressed ``application/json`` in UTF-8 is understood; raises ``ApiError`` 415 for the rest."""
    media, *parameters = (
        part.strip().lower() for part in headers.get("content-type", "").split(";")
    )
    charset = [
        part.partition("=")[2].strip('" ') for part in parameters if part.startswith("charset")
    ]
    if (
        media != "application/json"
        or charset not in ([], ["utf-8"])
        or len(parameters) != len(charset)
    ):
        raise ApiError(
            "Send the body as JSON in UTF-8, with the header Content-Type: application/json.",
            status=415, type="invalid_request_error", code="unsupported_media_type",
        )  # fmt: skip
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(
            "Send the body uncompressed, without a Content-Encoding header.",
            status=415, type="invalid_request_error", code="unsupported_content_encoding",
        )  # fmt: skip


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes.

    Raises ``ApiError`` 413 beyond the limit, 400 when fewer bytes came than were announced
    (RFC 9112 section 8: such a message is incomplete and must not be acted on).
    """
    declared = _declared_length(environ)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    if declared is None and not environ.get("wsgi.input_terminated"):
        return b""
    try:
        data = _drain(environ["wsgi.input"], limit + 1 if declared is None else declared)
    # The server raises errors of its own for a chunked body that is cut or malformed, and OSError for a lost client.
    except Exception as error:
        raise _incomplete() from error
    if len(data) > limit:
        raise _too_large(limit)
    if declared is not None and len(data) != declared:
        raise _incomplete()
    return data


def _declared_length(environ: Mapping[str, Any]) -> int | None:
    text = environ.get("CONTENT_LENGTH") or ""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_LENGTH):
        raise InvalidRequest("The header Content-Length is not a number.", code="bad_framing")
    return int(text)


def _drain(stream: Any, size: int) -> bytes:
    pieces: list[bytes] = []
    left = size
    while left and (piece := stream.read(min(left, _CHUNK))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        f"The body is larger than this gateway's limit of {limit} bytes; send less, or ask its operator to raise"
        " limits.body_bytes.",
        status=413, type="invalid_request_error", code="request_too_large",
    )  # fmt: skip


def _incomplete() -> InvalidRequest:
    return InvalidRequest(
        "The body ended before it was complete; nothing was sent on.", code="incomplete_body"
    )


def refuse_query(environ: Mapping[str, Any]) -> None:
    """No endpoint here takes query parameters, and none is dropped silently; raises ``InvalidRequest``."""
    if query := environ.get("QUERY_STRING"):
        name = query.partition("=")[0][:64]
        raise InvalidRequest(
            "Query parameters are not understood here; put parameters into the JSON body.",
            code="unknown_parameter", param=name if _PRINTABLE.match(name) else None,
        )  # fmt: skip


def passable(upstreams: Iterable[Upstream]) -> tuple[str, ...]:
    """The names of all request headers that one of ``upstreams`` may get, in lower case."""
    more = (name.lower() for upstream in upstreams for name in upstream.pass_headers)
    return tuple(dict.fromkeys((*PASSED, *more)))


def passed_on(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The request headers of the allow-list ``names`` that an upstream gets; raises ``InvalidRequest``.

    Values with control or non-ASCII characters are refused: the HTTP client would send some of them as they are.
    """
    passed = {name: headers[name] for name in map(str.lower, names) if name in headers}
    for name, value in passed.items():
        if not _PRINTABLE.match(value):
            raise InvalidRequest(
                f"The header {name} holds characters that cannot be sent on.", code="bad_header"
            )
    return passed
