"""Writes JSON bodies and streams of server-sent events."""

import json
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

_PADDING = "abcdefghijklmnopqrstuvwxyz0123456789"
_EVENT_SIZE = 256

DONE = b"data: [DONE]\n\n"


def encoded(body: object) -> bytes:
    """A JSON text in UTF-8; characters that have no UTF-8 form (lone surrogates) are escaped."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


def events(chunks: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Each chunk as one event, and the mark of the end (OpenAI API reference, streaming)."""
    for chunk in chunks:
        yield b"data: " + encoded(chunk) + b"\n\n"
    yield DONE


def obfuscated(chunk: dict[str, Any], chance: Random) -> dict[str, Any]:
    """The chunk with padding that hides the length of its text from those who watch the line."""
    missing = max(1, _EVENT_SIZE - len(encoded(chunk)) % _EVENT_SIZE)
    return chunk | {"obfuscation": "".join(chance.choices(_PADDING, k=missing))}
