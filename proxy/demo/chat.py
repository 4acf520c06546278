"""Answers `POST /v1/chat/completions`: text, a forced tool call or JSON, whole or streamed."""

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from proxy.demo.completions import usage
from proxy.demo.events import obfuscated
from proxy.demo.messages import Conversation
from proxy.demo.models import text_model
from proxy.demo.pieces import Piece, cut, interleaved, joined
from proxy.demo.reading import Streaming
from proxy.demo.textmodel import Step, dice


def _answer(asked: Conversation, which: int) -> Iterator[Piece]:
    if asked.script is not None:
        return _recited(asked, asked.script)
    chance = dice(asked.prompt, asked.seed, which, asked.sampling.temperature)
    steps = text_model().write(asked.prompt, asked.limit, asked.sampling, chance, asked.top or 0)
    return cut(steps, asked.stops, asked.limit)


def _recited(asked: Conversation, script: str) -> Iterator[Piece]:
    """A given text as if the model had written it, with the chances it really had."""
    numbers = text_model().tokenizer.encode(script)
    steps = text_model().score(asked.prompt, numbers, asked.top or 0)
    # A script that just fits has ended by itself: it was not cut off.
    limit = asked.limit + (len(numbers) == asked.limit)
    return cut(steps, () if asked.tool else asked.stops, limit)


def _finish(asked: Conversation, finish: str | None) -> str | None:
    return "tool_calls" if asked.tool is not None and finish == "stop" else finish


def _logprobs(asked: Conversation, steps: Sequence[Step]) -> dict[str, Any] | None:
    if asked.top is None or asked.tool is not None:
        return None
    return {"content": [_scored(step) for step in steps], "refusal": None}


def _scored(step: Step) -> dict[str, Any]:
    return _token(step.text, step.logprob) | {"top_logprobs": [_token(*one) for one in step.top]}


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "surrogatepass"))}


def _head(asked: Conversation, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": kind,
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": text_model().fingerprint,
    }


def _call(asked: Conversation, arguments: str) -> dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": asked.tool, "arguments": arguments},
    }


def _message(asked: Conversation, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    if asked.tool is not None:
        return message | {"content": None, "tool_calls": [_call(asked, text)]}
    return message


def whole(asked: Conversation) -> dict[str, Any]:
    """The reply in one body."""
    pieces = [joined(_answer(asked, which)) for which in range(asked.n)]
    choices = [
        {
            "index": index,
            "message": _message(asked, piece.text),
            "logprobs": _logprobs(asked, piece.steps),
            "finish_reason": _finish(asked, piece.finish),
        }
        for index, piece in enumerate(pieces)
    ]
    spent = sum(piece.spent for piece in pieces)
    return _head(asked, "chat.completion") | {
        "choices": choices,
        "usage": usage(len(asked.prompt), spent),
    }


def _first(asked: Conversation) -> dict[str, Any]:
    """The delta that opens a choice: the role and, for a tool call, the function's name."""
    if asked.tool is None:
        return {"role": "assistant", "content": "", "refusal": None}
    return {"role": "assistant", "content": None, "tool_calls": [{"index": 0} | _call(asked, "")]}


def _delta(asked: Conversation, piece: Piece) -> dict[str, Any]:
    if piece.finish is not None:
        return {}
    if asked.tool is None:
        return {"content": piece.text}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece.text}}]}


def _choice(asked: Conversation, index: int, piece: Piece) -> dict[str, Any]:
    return {
        "index": index,
        "delta": _delta(asked, piece),
        "logprobs": _logprobs(asked, piece.steps) if piece.steps else None,
        "finish_reason": _finish(asked, piece.finish),
    }


def _choices(asked: Conversation, delay: float) -> Iterator[tuple[dict[str, Any], int]]:
    """Each chunk's choice, and the tokens it has cost."""
    for index in range(asked.n):
        opening = {"index": index, "delta": _first(asked), "logprobs": None, "finish_reason": None}
        yield opening, 0
    answers = [_answer(asked, which) for which in range(asked.n)]
    for index, piece in interleaved(answers, delay):
        yield _choice(asked, index, piece), piece.spent


def streamed(asked: Conversation, delay: float) -> Iterator[dict[str, Any]]:
    """The reply in chunks: roles first, then the text of all choices interleaved."""
    streaming = asked.streaming or Streaming()
    head, spent = _head(asked, "chat.completion.chunk"), 0
    chance = dice(head["id"])
    for choice, cost in _choices(asked, delay):
        chunk = head | {"choices": [choice]} | ({"usage": None} if streaming.usage else {})
        yield obfuscated(chunk, chance) if streaming.obfuscation else chunk
        spent += cost
    if streaming.usage:
        yield head | {"choices": [], "usage": usage(len(asked.prompt), spent)}
