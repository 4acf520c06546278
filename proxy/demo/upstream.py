"""A small, honest OpenAI-shaped upstream: the far end of demo and tests, with no network behind it.

Beside the API it has one control route, `GET /demo/received?last=N`: the last requests, oldest
first, with headers, raw body and masked credentials. It asks for the same key as the API.
"""

import hmac
import math
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from proxy.demo import chat, completions, embeddings, messages, reading
from proxy.demo.events import encoded, events
from proxy.demo.models import MODELS, card
from proxy.demo.received import Received, bearer
from proxy.demo.refusals import Refused

_BODY = 8 * 1024 * 1024  # bytes
_REQUESTS = 3_500  # per minute
_TOKENS = 90_000  # per minute
_CONTROL = "/demo/received"
_Chunks = Iterator[dict[str, Any]]


def create_upstream(*, api_key: str | None = None, delay: float = 0.0, keep: int = 16) -> Flask:
    """An upstream as a WSGI application.

    Args:
        api_key: the only credential it accepts; None accepts all callers.
        delay: seconds between the tokens of a stream.
        keep: how many of the last requests it remembers.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _BODY
    received = Received(keep)
    app.before_request(lambda: _arrive(received, api_key))
    app.after_request(_depart)
    app.register_error_handler(Refused, _refusal)
    app.register_error_handler(HTTPException, _http_refusal)
    _route(app, delay)
    app.add_url_rule(_CONTROL, view_func=lambda: _last(received), endpoint="received")
    return app


def _route(app: Flask, delay: float) -> None:
    posts: dict[str, Callable[[], Response]] = {
        "completions": lambda: _written(completions.read(_body()), completions, delay),
        "chat/completions": lambda: _written(messages.read(_body()), chat, delay),
        "embeddings": lambda: _json(embeddings.answer(_body())),
    }
    for base in ("/v1/", "/"):
        for path, view in posts.items():
            app.add_url_rule(base + path, base + path, view, methods=["POST"])
        app.add_url_rule(f"{base}models", f"{base}models", _models)
        app.add_url_rule(f"{base}models/<path:name>", f"{base}model", _model)


def _arrive(received: Received, api_key: str | None) -> None:
    g.began = time.monotonic()
    if request.path != _CONTROL:
        received.note(request.method, request.full_path.rstrip("?"), request.headers, _raw())
    if api_key is not None:
        _admit(api_key)


def _raw() -> bytes:
    return request.get_data(cache=True)


def _admit(api_key: str) -> None:
    given = bearer(request.headers.get("Authorization", ""))
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        message = "Incorrect API key provided." if given else "You didn't provide an API key."
        raise Refused(message, status=401, code="invalid_api_key")


def _body() -> dict[str, Any]:
    return reading.parse(_raw())


def _written(asked: Any, route: ModuleType, delay: float) -> Response:
    """The reply to what was asked: whole, or as a stream when that is what was asked for."""
    if asked.streaming is None:
        return _json(route.whole(asked))
    chunks: _Chunks = route.streamed(asked, delay)
    return Response(events(chunks), content_type="text/event-stream; charset=utf-8")


def _json(body: object, status: int = 200) -> Response:
    return Response(encoded(body), status, content_type="application/json")


def _models() -> Response:
    return _json({"object": "list", "data": [card(name) for name in MODELS]})


def _model(name: str) -> Response:
    return _json(card(name))


def _last(received: Received) -> Response:
    count = request.args.get("last", default=2**31, type=int)
    return _json({"object": "list", "data": received.last(max(0, count))})


def _refusal(refused: Refused) -> Response:
    return _json(refused.body(), refused.status)


def _http_refusal(error: HTTPException) -> Response:
    """What Flask refuses by itself (404, 405, 413), in the API's words."""
    status = error.code or 500
    said = {
        404: f"Invalid URL ({request.method} {request.path})",
        405: f"Not allowed to {request.method} on {request.path}.",
        413: f"The body of the request is larger than {_BODY} bytes.",
    }
    codes = {404: "unknown_url", 405: "method_not_supported"}
    refused = Refused(said.get(status, error.name), status=status, code=codes.get(status))
    reply = _refusal(refused)
    reply.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return reply


def _depart(reply: Response) -> Response:
    """The headers that the API sends with every reply (OpenAI API reference, debugging)."""
    reply.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
    reply.headers["openai-organization"] = request.headers.get("OpenAI-Organization") or "demo"
    reply.headers["openai-version"] = "2020-10-01"
    elapsed = time.monotonic() - g.began
    reply.headers["openai-processing-ms"] = str(math.ceil(elapsed * 1000))
    tokens = min(_TOKENS, (request.content_length or 0) // 4)
    for kind, limit, used in (("requests", _REQUESTS, 1), ("tokens", _TOKENS, tokens)):
        reply.headers[f"x-ratelimit-limit-{kind}"] = str(limit)
        reply.headers[f"x-ratelimit-remaining-{kind}"] = str(limit - used)
        reply.headers[f"x-ratelimit-reset-{kind}"] = span(used / limit * 60)
    return reply


def span(seconds: float) -> str:
    """A duration in the form of the rate-limit headers: `17ms`, `6.5s`, `1m30s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return (f"{minutes:.0f}m" if minutes else "") + f"{rest:g}s"
