"""Has prompts and replies judged by the company's DLP appliance, over ICAP (RFC 3507)."""

import base64
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from plugins.icap_guard.messages import Message, head
from plugins.icap_guard.service import Service
from proxy import Call, ConfigError, Connections, Deny, Reply, Unavailable, hookimpl

log = logging.getLogger("outgate.icap_guard")
#: The plain one, and the one over TLS, which no standard names.
_PORTS = {"icap": 1344, "icaps": 11344}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}\Z")
_PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
_KINDS = {"body": "application/json", "texts": "text/plain; charset=utf-8"}
_TOLD = {
    "request": {
        "blocked": "The company's content inspection refused this call: remove what must not leave.",
        "changed": "The company's content inspection would change this call, and changes are not applied:"
        " remove what must not leave.",
    },
    "reply": {
        "blocked": "The company's content inspection withheld the reply.",
        "changed": "The company's content inspection withheld the reply.",
    },
}
Send = Literal["texts", "body"]


@dataclass(frozen=True)
class IcapGuard:
    """Sends requests to the service at ``url`` (REQMOD) and complete replies to that at ``reply_url`` (RESPMOD).

    A call passes where the service changes nothing (204, or the same bytes again), and is refused where it answers
    with a page of its own, or changes anything. Any other answer, and none within ``timeout`` seconds, refuses the
    call: 503. ``send`` chooses the JSON, or its texts, one a line. With ``reply_url`` streams are read to their end.
    What policy masks is not masked yet: the service sees it.
    """

    url: str | None = None
    reply_url: str | None = None
    send: Send = "texts"
    caller: bool = True
    host: str = "outgate.invalid"
    preview: bool = False
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    allow_plain: bool = False
    timeout: float = 4.0
    retries: int = 1
    connections: int = 16
    _services: Mapping[str, Service] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A URL, a host or a number that will not do stops the start."""
        if not self.url and not self.reply_url:
            raise ConfigError('write url = "icap://…" for requests, reply_url for replies, or both')
        if not _HOST.match(self.host):
            raise ConfigError(f"host = {self.host!r}: write a host name")
        for name, least in {"timeout": 0, "connections": 0, "retries": -1}.items():
            if not getattr(self, name) > least:
                raise ConfigError(f"{name} = {getattr(self, name)}: write a number above {least}")
        services = {}
        if self.url:
            services["request"] = self._service(self.url, "REQMOD")
        if self.reply_url:
            services["reply"] = self._service(self.reply_url, "RESPMOD")
        else:
            # A hook that is there has streams read to their end.
            object.__setattr__(self, "rewrite_response", None)
        object.__setattr__(self, "_services", services)

    def _service(self, url: str, method: Literal["REQMOD", "RESPMOD"]) -> Service:
        connections = Connections(
            url,
            ca_bundle=self.ca_bundle,
            client_cert=self.client_cert,
            client_key=self.client_key,
            allow_plain=self.allow_plain,
            plain_option="allow_plain",
            ports=_PORTS,
            limit=self.connections,
        )
        return Service(connections, method, preview=self.preview, retries=self.retries)

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Have the request judged, before policy masks anything in it."""
        if "request" not in self._services or not call.body:
            return None
        body = self._shown(call)
        return self._judged("request", call, Message((self._request(call, len(body)),), body))

    @hookimpl
    def rewrite_response(self, call: Call, reply: Reply) -> Deny | None:
        """Have the complete reply judged."""
        body = self._shown(reply)
        fields = {"Content-Type": _KINDS[self.send], "Content-Length": str(len(body))}
        answer = head(f"HTTP/1.1 {reply.status} Reply", fields)
        return self._judged("reply", call, Message((self._request(call), answer), body))

    def _shown(self, what: Call | Reply) -> bytes:
        if self.send == "texts":
            return "\n".join(text.value for text in what.texts()).encode()
        return json.dumps(what.body, ensure_ascii=False).encode()

    def _request(self, call: Call, length: int | None = None) -> bytes:
        path = _PATHS.get(call.endpoint, f"/v1/{call.endpoint}")
        fields = {"Host": self.host}
        if length is not None:
            fields |= {"Content-Type": _KINDS[self.send], "Content-Length": str(length)}
        return head(f"POST https://{self.host}{path} HTTP/1.1", fields)

    def _judged(
        self, what: Literal["request", "reply"], call: Call, message: Message
    ) -> Deny | None:
        seconds = min(self.timeout, call.seconds_left())
        try:
            verdict = self._services[what].judge(message, self._about(call), seconds=seconds)
        except TimeoutError:
            raise _away("it did not answer in time") from None
        except OSError as error:
            log.warning("icap_guard: %s", error)
            raise _away("it gave no verdict") from None
        return None if verdict == "pass" else Deny(_TOLD[what][verdict])

    def _about(self, call: Call) -> dict[str, str]:
        """Who calls, as appliances read it (draft-stecher-icap-subid)."""
        if not self.caller:
            return {}
        groups = ",".join(f"Local://{group}" for group in call.principal.groups)
        told = {
            "X-Authenticated-User": f"Local://{call.principal.name}",
            "X-Authenticated-Groups": groups,
        }
        return {
            name: base64.b64encode(text.encode()).decode() for name, text in told.items() if text
        }


def _away(why: str) -> Unavailable:
    return Unavailable(
        f"The company's content inspection could not judge this call ({why}), so it was refused: try again later."
    )
