"""A fast upstream to measure against: fixed completions, timed streams, and as much silence as is asked for.

The model of a call says what comes back:

================  ==============================================================================
whole             one completion of about 1 KB (any name that is not one of these)
stream-N-MS       N events, one every MS milliseconds; the text of each is a word that says when it was
                  sent (``moment``); then ``[DONE]``
stall-N           N events at once, then nothing
silent            nothing at all
================  ==============================================================================

Chats (``/v1/chat/completions``) are answered the same way, in their own form.

``GET /state`` tells how many connections are open (its own not counted) and how many calls came.
Run it by itself: ``python bench/upstream.py 127.0.0.1:9000``; it prints its address when it listens.
"""

import asyncio
import contextlib
import json
import re
import sys
import time
from typing import Any, Final, cast

_MODEL: Final = re.compile(rb'"model": ?"([^"]*)"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]+)", re.IGNORECASE)
_HEAD_END: Final = b"\r\n\r\n"
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DONE: Final = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_PAYLOAD_BYTES: Final = 1024
_LETTERS: Final = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_DIGITS: Final = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")
_CHAT: Final = b"POST /v1/chat/completions "
_COMPLETION_EVENT: Final = (
    b'data: {"id":"cmpl-fixed","object":"text_completion","created":1700000000,"model":"stream",'
    b'"choices":[{"index":0,"logprobs":null,"finish_reason":%b,"text":" %b"}]}\n\n'
)
_CHAT_EVENT: Final = (
    b'data: {"id":"chatcmpl-fixed","object":"chat.completion.chunk","created":1700000000,"model":"stream",'
    b'"choices":[{"index":0,"logprobs":null,"finish_reason":%b,"delta":{"content":" %b"}}]}\n\n'
)


def _completion() -> bytes:
    choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 180, "total_tokens": 380}
    body: dict[str, Any] = {
        "id": "cmpl-fixed",
        "object": "text_completion",
        "created": 1_700_000_000,
    }
    body |= {"model": "whole", "choices": [choice], "usage": usage}
    choice["text"] = "word " * ((_PAYLOAD_BYTES - len(json.dumps(body))) // 5)
    return _json_reply(body)


def _chat() -> bytes:
    body = json.loads(_completion().partition(_HEAD_END)[2])
    (choice,) = body["choices"]
    choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    return _json_reply({**body, "id": "chatcmpl-fixed", "object": "chat.completion"})


def _json_reply(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def word(moment: int) -> bytes:
    """A moment, in nanoseconds of the system's monotonic clock, as sixteen letters.

    In digits it would look like a telephone number to whoever searches for one.
    """
    return format(moment, "016x").encode().translate(_LETTERS)


def moment(letters: bytes) -> int:
    """The moment that a word says."""
    return int(letters.translate(_DIGITS), 16)


def _event(form: bytes, reason: bytes = b"null") -> bytes:
    """One chunk of HTTP that is one event, stamped with the moment it leaves."""
    data = form % (reason, word(time.monotonic_ns()))
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection; calls on it are answered one after the other."""

    open = 0
    calls = 0
    whole = _completion()
    chat = _chat()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.buffer = b""
        self.form = _COMPLETION_EVENT
        self.timer: asyncio.TimerHandle | None = None
        Upstream.open += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection and stop its stream."""
        Upstream.open -= 1
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(_HEAD_END)) >= 0:
            length = _LENGTH.search(self.buffer, 0, end)
            total = end + len(_HEAD_END) + (int(length[1]) if length else 0)
            if len(self.buffer) < total:
                return
            request, self.buffer = self.buffer[:total], self.buffer[total:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET /state"):
            state = {"open": Upstream.open - 1, "calls": Upstream.calls}
            self.transport.write(_json_reply(state))
            return
        Upstream.calls += 1
        found = _MODEL.search(request)
        kind, *numbers = found[1].decode().split("-") if found else ["whole"]
        is_chat = request.startswith(_CHAT)
        self.form = _CHAT_EVENT if is_chat else _COMPLETION_EVENT
        if kind == "stream":
            self._stream(int(numbers[0]), int(numbers[1]) / 1000)
        elif kind == "stall":
            events = b"".join(_event(self.form) for _ in range(int(numbers[0])))
            self.transport.write(_STREAM_HEAD + events)
        elif kind != "silent":
            self.transport.write(self.chat if is_chat else self.whole)

    def _stream(self, events: int, gap: float) -> None:
        self.transport.write(_STREAM_HEAD)
        self._next(events, asyncio.get_running_loop().time(), gap)

    def _next(self, left: int, due: float, gap: float) -> None:
        if left == 1:
            self.transport.write(_event(self.form, b'"stop"') + _DONE)
            return
        self.transport.write(_event(self.form))
        # The next moment counts from when this one was due, so that a stream keeps its pace.
        self.timer = asyncio.get_running_loop().call_at(
            due + gap, self._next, left - 1, due + gap, gap
        )


async def serve(address: str) -> None:
    """Listen until the process is ended."""
    host, _, port = address.rpartition(":")
    server = await asyncio.get_running_loop().create_server(Upstream, host, int(port), backlog=2048)
    print("http://{}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"))
