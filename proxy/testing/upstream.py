"""The far end of a running proxy in tests: says what the test tells it to, and remembers what it was sent."""

import io
import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from proxy.demo.loopback import running
from proxy.model import STREAMED, Endpoint
from proxy.testing.replies import (
    Answer,
    Pieces,
    asked,
    cut,
    streamed,
    text_chunks,
    text_reply,
    whole,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: What tells the endpoint, whatever path a provider has for it.
_ASKING: Final[Mapping[str, Endpoint]] = {
    "prompt": "completions",
    "messages": "chat",
    "input": "embeddings",
}


class Received(Struct, frozen=True):
    """A request as it arrived: ``body`` is its JSON, or None; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class _Text(Struct, frozen=True):
    text: str
    pieces: Pieces | None


_Script: TypeAlias = _Text | Answer


class ScriptedUpstream:
    """An upstream on loopback: ``requests`` is what it was sent, in order.

    It says back what it was asked, until it is told what to say; then call after call, and the last again.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self._coming: deque[_Script] = deque()
        self._last: _Script | None = None
        self._lock = threading.Lock()

    def says(self, *texts: str, pieces: Pieces | None = None) -> None:
        """Answer the next calls with these texts, each whole or as a stream, as it is asked for.

        ``pieces`` is how a stream is cut: a number of characters, or several in turn; without it, words.
        """
        self._play(_Text(text, pieces) for text in texts)

    def answers(self, *bodies: Any, status: int = 200) -> None:
        """Answer the next calls with these JSON bodies."""
        self._play(whole(body, status) for body in bodies)

    def streams(self, *chunks: Any) -> None:
        """Answer the next call with a stream of exactly these chunks."""
        self._play([streamed(chunks)])

    def _play(self, scripts: Iterable[_Script]) -> None:
        with self._lock:
            self._coming.extend(scripts)

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterator[bytes]:
        """The WSGI application."""
        received = _received(environ)
        with self._lock:
            self.requests.append(received)
            if self._coming:
                self._last = self._coming.popleft()
            script = self._last
        answer = script if isinstance(script, Answer) else _answer(received, script)
        start(f"{answer.status} Scripted", list(answer.headers))
        return answer.pieces()


@contextmanager
def scripted() -> Iterator[ScriptedUpstream]:
    """A scripted upstream that listens on a free port of 127.0.0.1."""
    upstream = ScriptedUpstream()
    with running(upstream) as upstream.url:
        yield upstream


def _received(environ: "WSGIEnvironment") -> Received:
    data = environ.get("wsgi.input", io.BytesIO()).read()
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    body = json.loads(data) if data else None
    return Received(environ["REQUEST_METHOD"], environ["PATH_INFO"], headers, body)


def _answer(received: Received, script: _Text | None) -> Answer:
    """What a model would answer, or a list of models, or numbers."""
    asked_for = received.body or {}
    endpoint = next((name for field, name in _ASKING.items() if field in asked_for), None)
    if endpoint is None:
        return whole({"object": "list", "data": [{"id": "test-model", "object": "model"}]})
    if endpoint not in STREAMED:
        vector = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}
        return whole({"object": "list", "data": [vector], "model": received.body["model"]})
    text = script.text if script else asked(received.body)
    model = received.body["model"]
    if received.body.get("stream") is not True:
        return whole(text_reply(endpoint, text, model))
    pieces = script.pieces if script else None
    said = _words(text) if pieces is None else cut(text, pieces)
    return streamed(text_chunks(endpoint, said, model))


def _words(text: str) -> list[str]:
    first, *rest = text.split(" ")
    return [piece for piece in (first, *(f" {word}" for word in rest)) if piece]
