"""The proxy anybody writes first, Flask and ``requests.post``: what the measurements are compared with."""

import os
from collections.abc import Iterator

import requests
from flask import Flask, Response, request, stream_with_context

UPSTREAM = os.environ["NAIVE_UPSTREAM"]
app = Flask(__name__)


@app.post("/v1/completions")
def completions() -> Response:
    """Pass a call on and its answer back, streamed when it is a stream."""
    body = request.get_json()
    streamed = bool(body.get("stream"))
    reply = requests.post(f"{UPSTREAM}/v1/completions", json=body, stream=streamed, timeout=600)
    kind = reply.headers["content-type"]
    if not streamed:
        return Response(reply.content, reply.status_code, content_type=kind)

    def pieces() -> Iterator[bytes]:
        with reply:
            yield from reply.iter_content(chunk_size=None)

    return Response(stream_with_context(pieces()), reply.status_code, content_type=kind)
