"""Replies in the shape of the OpenAI API reference, for upstreams that tests script."""

from typing import Any

COMPLETION: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_700_000_000,
    "model": "scripted",
    "choices": [{"text": "fine", "index": 0, "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    """One event of a streamed completion."""
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
    fields = {key: value for key, value in COMPLETION.items() if key != "usage"}
    return {**fields, "choices": [choice]}


def error(
    code: str, message: str = "No.", *, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    """The error envelope."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
