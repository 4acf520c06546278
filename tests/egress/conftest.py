import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

import pytest

from proxy.egress import Egress, Handle, Sign, UpstreamReply
from proxy.model import Timeouts, Upstream
from tests.egress.servers import LIMITS, Script, Server, serving, upstream_at


class Sender:
    """An egress with one upstream, and the short way to send to it."""

    def __init__(self, upstream: Upstream, server: Server) -> None:
        self.upstream = upstream
        self.server = server
        self.egress = Egress([upstream], LIMITS)

    def send(
        self,
        body: bytes | None = b"{}",
        headers: Mapping[str, str] | None = None,
        handle: Handle | None = None,
        *,
        path: str = "/completions",
        method: str = "POST",
        sign: Sign | None = None,
        timeouts: Timeouts | None = None,
    ) -> UpstreamReply:
        given = {"content-type": "application/json"} if headers is None else headers
        return self.egress.send(
            self.upstream,
            method,
            path,
            body,
            given,
            handle or Handle(),
            sign=sign,
            timeouts=timeouts,
        )


class Start(Protocol):
    def __call__(self, script: Script, **changes: object) -> Sender: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an upstream with a script, and give the sender for it."""
    with contextlib.ExitStack() as stack:

        def begin(script: Script, **changes: object) -> Sender:
            server = stack.enter_context(serving(script))
            sender = Sender(upstream_at(server.port, **changes), server)
            stack.callback(sender.egress.close)
            return sender

        yield begin
