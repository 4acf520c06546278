"""Asks a policy service of the company about each call, and if wanted about each reply: it allows or denies."""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy import (
    Asker,
    Call,
    ConfigError,
    Deny,
    PostHeaders,
    Reply,
    Secret,
    Text,
    Unavailable,
    hookimpl,
)

log = logging.getLogger("outgate.webhook_guard")
_OK = 200
_LONGEST_MESSAGE = 1000
_LONGEST_PARAM = 100
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
Send = Literal["texts", "body", "facts"]


@dataclass(frozen=True)
class WebhookGuard:
    """Posts what ``send`` names of a call to ``url``, which answers ``{"verdict": "allow"}`` or ``"deny"``.

    With ``"deny"``, ``message``, ``code`` and ``param`` are told to the caller. Any other answer, and none within
    ``timeout`` seconds, refuses the call: 503. With ``replies`` complete replies are judged too; streams are read to
    their end first. What policy masks is not masked yet: the service sees it. Posts are signed with ``secret`` as
    those of ``webhook_log`` are. ``retries`` follow where the service cannot be reached or hangs up before it answers.
    """

    url: str
    send: Send = "texts"
    replies: bool = False
    secret: Secret | None = None
    headers: dict[str, Secret] = field(default_factory=dict)
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    allow_http: bool = False
    timeout: float = 3.0
    retries: int = 1
    most_bytes: int = 65536
    _asker: Asker = field(init=False, repr=False)
    _headers: PostHeaders = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A URL, a header, a secret or a number that will not do stops the start."""
        for name, least in {"timeout": 0, "most_bytes": 0, "retries": -1}.items():
            if not getattr(self, name) > least:
                raise ConfigError(f"{name} = {getattr(self, name)}: write a number above {least}")
        asker = Asker(
            self.url,
            ca_bundle=self.ca_bundle,
            client_cert=self.client_cert,
            client_key=self.client_key,
            allow_http=self.allow_http,
            timeout=self.timeout,
            retries=self.retries,
            most=self.most_bytes,
        )
        object.__setattr__(self, "_asker", asker)
        object.__setattr__(self, "_headers", PostHeaders(self.secret, self.headers))
        if not self.replies:
            # A hook that is there has streams read to their end.
            object.__setattr__(self, "rewrite_response", None)

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Ask about the call, before policy masks anything in it."""
        return self._judged(call, "request", call.body, call.texts())

    @hookimpl
    def rewrite_response(self, call: Call, reply: Reply) -> Deny | None:
        """Ask about the complete reply."""
        return self._judged(call, "reply", reply.body, reply.texts(), status=reply.status)

    def _judged(
        self, call: Call, phase: str, body: Any, texts: Iterable[Text], **facts: Any
    ) -> Deny | None:
        question: dict[str, Any] = {
            "phase": phase, "id": call.id, "endpoint": call.endpoint, "principal": call.principal.name,
            "groups": call.principal.groups, "model": call.model, "stream": call.stream, **facts,
        }  # fmt: skip
        if self.send == "body":
            question["body"] = body
        elif self.send == "texts":
            question["texts"] = [
                {"place": text.place, "text": text.value, "is_key": text.is_key} for text in texts
            ]
        said = self._asked(call, json.dumps(question, ensure_ascii=False).encode())
        if said.get("verdict") not in ("allow", "deny"):
            raise _away("its answer holds no verdict that is known here")
        return None if said["verdict"] == "allow" else _refusal(said)

    def _asked(self, call: Call, question: bytes) -> dict[str, Any]:
        """The service's answer; raises ``Unavailable`` for what is none."""
        headers = self._headers.of(question)
        try:
            status, data = self._asker.ask(question, headers, seconds=call.seconds_left())
        except TimeoutError:
            raise _away("it did not answer in time") from None
        except OSError as error:
            log.warning("webhook_guard: %s", error)
            raise _away(f"no answer, {type(error).__name__}") from None
        if status != _OK:
            raise _away(f"it answered {status}")
        try:
            said = json.loads(data, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            raise _away("its answer is no JSON") from None
        if not isinstance(said, dict):
            raise _away("its answer is no object")
        if said.get("id", call.id) != call.id:
            raise _away("it answered about another call")
        return said


def _refusal(said: dict[str, Any]) -> Deny:
    """A Deny in the service's words; where they will not do, it is a Deny all the same."""
    message, code, param = said.get("message"), said.get("code"), said.get("param")
    if not isinstance(message, str) or not message.strip():
        message = "Refused by the company's policy service."
    if not isinstance(code, str) or not _CODE.match(code):
        code = "content_policy_violation"
    param = param[:_LONGEST_PARAM] if isinstance(param, str) else None
    return Deny(message[:_LONGEST_MESSAGE], code, param)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _away(why: str) -> Unavailable:
    return Unavailable(
        f"The company's policy service could not judge this call ({why}), so it was refused: try again later."
    )
