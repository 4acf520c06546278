"""Answers of an upstream that are here already: whole ones, and streams cut as a test wants them."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from proxy import stream
from proxy.jsonio import encode
from proxy.model import STREAMED, Endpoint
from proxy.reading import sse_event
from proxy.sse import DONE, EventReader, encode_event

#: How a text is cut: so many characters a piece, or the lengths of the pieces in turn, the rest in one.
Pieces: TypeAlias = int | Sequence[int]
_JSON: Final = (("content-type", "application/json"),)
_STREAM: Final = (("content-type", "text/event-stream; charset=utf-8"),)
_RANDOM_CUTS: Final = 3
_MOST_PIECES: Final = 2_000
_LONGEST_EVENT: Final = 1 << 24


class Answer(Struct, frozen=True):
    """A complete answer, as the relay reads one of an upstream; ``parts`` is its body as it came in."""

    parts: tuple[bytes, ...]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = _JSON

    def header(self, name: str) -> str | None:
        """The value of a header, by its name in lower case."""
        return dict(self.headers).get(name)

    def read(self, _limit: int) -> bytes:
        """The whole body."""
        return b"".join(self.parts)

    def pieces(self) -> Iterator[bytes]:
        """The body, piece by piece."""
        return iter(self.parts)


def whole(body: Any, status: int = 200) -> Answer:
    """An answer in one piece of JSON."""
    return Answer((encode(body),), status)


def streamed(chunks: Sequence[Any]) -> Answer:
    """A stream of these chunks, ended as it should be."""
    return Answer((*map(sse_event, chunks), encode_event(DONE)), headers=_STREAM)


def text_reply(endpoint: Endpoint, text: str, model: str = "test-model") -> dict[str, Any]:
    """The whole reply that says ``text``; raises ``ValueError`` for an endpoint that says none."""
    if endpoint not in STREAMED:
        raise ValueError(f"{endpoint} answers with no text: use one of {', '.join(STREAMED)}")
    says = (
        {"message": {"role": "assistant", "content": text}}
        if endpoint == "chat"
        else {"text": text}
    )
    choice = {"index": 0, **says, "logprobs": None, "finish_reason": "stop"}
    kind = "chat.completion" if endpoint == "chat" else "text_completion"
    return {"id": "reply-1", "object": kind, "created": 1, "model": model, "choices": [choice]}


def text_chunks(endpoint: Endpoint, pieces: Sequence[str], model: str = "test-model") -> list[Any]:
    """The chunks of a stream that says a text in these pieces; raises ``ValueError`` as ``text_reply``."""
    first, last = stream.explode(endpoint, text_reply(endpoint, "", model), include_usage=False)
    return [*(_saying(endpoint, first, piece) for piece in pieces), last]


def _saying(endpoint: Endpoint, chunk: Any, piece: str) -> Any:
    says = {"delta": {"content": piece}} if endpoint == "chat" else {"text": piece}
    return {**chunk, "choices": [{**chunk["choices"][0], **says}]}


def cut(text: str, pieces: Pieces) -> list[str]:
    """``text`` in pieces; raises ``ValueError`` for a length that cuts nothing off."""
    if isinstance(pieces, int):
        if pieces < 1:
            raise ValueError(f"pieces={pieces}: write a number of characters above zero")
        return [text[at : at + pieces] for at in range(0, len(text), pieces)]
    found, at = [], 0
    for length in pieces:
        if length < 1:
            raise ValueError(f"pieces={pieces}: write numbers of characters above zero")
        found.append(text[at : at + length])
        at += length
    return [piece for piece in [*found, text[at:]] if piece]


def single(text: str) -> int:
    """The shortest pieces a text is tried in: single characters, if it is not very long."""
    return max(1, math.ceil(len(text) / _MOST_PIECES))


def cuttings(text: str) -> Iterator[tuple[str, list[str]]]:
    """The ways in which every text is tried, each with its name; for the same text always the same."""
    size = single(text)
    yield f"pieces of {size} character" + ("s" if size > 1 else ""), cut(text, size)
    chance = random.Random(text)  # noqa: S311 - to be repeatable is what is wanted of it
    for _ in range(_RANDOM_CUTS):
        lengths = [chance.randint(1, max(2, len(text) // 3)) for _ in range(8)]
        yield f"pieces of {', '.join(map(str, lengths))} characters", cut(text, lengths)


def events(data: bytes) -> list[Any]:
    """What the caller is told by a stream, event by event, without its ``[DONE]``."""
    told = [event.data for event in EventReader(_LONGEST_EVENT).feed(data)]
    return [json.loads(item) for item in told if item and item != DONE]


def asked(body: Any) -> str:
    """The text that a body asks about: its prompt, or the last message of its chat."""
    said = body.get("prompt", "")
    if messages := body.get("messages"):
        said = messages[-1].get("content")
    if isinstance(said, list):
        parts = (part.get("text", "") if isinstance(part, dict) else part for part in said)
        return " ".join(part for part in parts if isinstance(part, str))
    return said if isinstance(said, str) else ""
