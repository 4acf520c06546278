"""The operator's own HTTP proxy on the way out: who it is, and how it is asked for a tunnel."""

import base64
import re
import socket
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from msgspec import Struct
from urllib3.util import parse_url

from proxy.egress.causes import Diagnosed
from proxy.errors import ConfigError
from proxy.frozen import FrozenDict
from proxy.secret import Secret

ASKS: Final = 407
_PORT: Final = 80
_HEAD: Final = 64 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_END: Final = re.compile(rb"\r?\n\r?\n")
_FORM: Final = "http://user:password@host:port, with what is special in a password as %xx"
_AUTHORIZATION: Final = "Proxy-Authorization"


class OutboundProxy(Struct, frozen=True):
    """``outbound_proxy`` in parts; ``headers`` are for the proxy alone, and hold its credentials."""

    url: Secret
    host: str
    port: int
    headers: Mapping[str, str] = FrozenDict()

    @property
    def text(self) -> str:
        """``host:port``, without the credentials."""
        return f"{self.host}:{self.port}"


def parse(secret: Secret) -> OutboundProxy:
    """The parts of ``http://[user:password@]host:port``; raises ``ConfigError``, which repeats none of them."""
    try:
        url = parse_url(secret.reveal())
    except ValueError:
        url = parse_url("")
    if url.scheme != "http" or not url.host or url.port == 0:
        raise ConfigError("outbound_proxy is http://[user:password@]host:port")
    headers = {} if url.auth is None else {_AUTHORIZATION: _basic(url.auth)}
    return OutboundProxy(secret, url.host, url.port or _PORT, FrozenDict(headers))


def _basic(auth: str) -> str:
    """RFC 7617 section 2, in UTF-8."""
    user, _, password = auth.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def open_tunnel(
    sock: socket.socket, target: str, headers: Mapping[str, str], seconds: float
) -> None:
    """Have the proxy behind ``sock`` connect to ``target`` (RFC 9110 section 9.3.6), within ``seconds``.

    Raises ``Diagnosed``, which quotes nothing of the proxy's but its status, and ``OSError``.
    """
    lines = {"Host": target, **headers}
    head = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode("ascii"))
    try:
        status = _answer(sock, time.monotonic() + seconds)
    except TimeoutError:
        raise Diagnosed(
            "timeout_connect",
            "the outbound proxy did not answer CONNECT within the connect timeout",
            f"Look whether the proxy may and can reach {target}; if it is only slow, raise timeouts.connect.",
        ) from None
    if not 200 <= status < 300:  # noqa: PLR2004 - the class of successes
        raise refusal(status, target, asked_with=_AUTHORIZATION in headers)


def _answer(sock: socket.socket, by: float) -> int:
    """The status of the proxy's answer; of a success the whole head is read, and nothing may follow it."""
    data = b""
    while True:
        sock.settimeout(max(0.001, by - time.monotonic()))
        piece = sock.recv(4096)
        if not piece:
            raise _nonsense("closed the connection instead of answering CONNECT")
        data += piece
        line, newline, _ = data.partition(b"\n")
        match = _STATUS.fullmatch(line + newline) if newline else None
        if newline and match is None:
            raise _nonsense("answered CONNECT with something that is not HTTP/1.1")
        if match is not None and not match[1].startswith(b"2"):
            return int(match[1])
        if (end := _END.search(data)) is not None:
            if end.end() != len(data):
                raise _nonsense("sent more than its answer to CONNECT")
            return int(match[1]) if match else 0
        if len(data) > _HEAD:
            raise _nonsense("answered CONNECT with a head of more than 64 KiB")


def _nonsense(what: str) -> Diagnosed:
    return Diagnosed(
        "connect",
        f"the outbound proxy {what}",
        "Look whether host and port in outbound_proxy are those of an HTTP proxy that allows CONNECT.",
    )


def refusal(status: int, target: str, *, asked_with: bool) -> Diagnosed:
    """Why the proxy said no; ``asked_with`` tells whether it was shown credentials."""
    if status == ASKS and asked_with:
        detail = "the outbound proxy refused the credentials (407)"
        remedy = f"Look at user and password in outbound_proxy: {_FORM}. Only Basic is spoken."
    elif status == ASKS:
        detail = "the outbound proxy asks for credentials (407), and outbound_proxy has none"
        remedy = f"Write outbound_proxy as {_FORM}."
    elif status in (401, 403):
        detail = f"the outbound proxy does not allow the way to {target} ({status})"
        remedy = f"Have whoever runs the proxy allow CONNECT to {target}."
    elif status in (502, 503, 504):
        detail = f"the outbound proxy could not reach {target} ({status})"
        remedy = f"Look whether the proxy resolves and reaches {target}, and may."
    else:
        detail = f"the outbound proxy refused CONNECT to {target} ({status})"
        remedy = "Look whether outbound_proxy names an HTTP proxy that allows CONNECT."
    return Diagnosed("connect", detail, remedy)
