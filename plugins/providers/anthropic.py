"""Anthropic, by its Messages API: chats of OpenAI's kind are translated, both ways.

By Anthropic's API reference: "Create a Message", "Streaming messages", "Errors", "Stop reasons and fallback".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from plugins.providers.anthropic_reply import Reading, error_of, finish_of, said, usage_of
from plugins.providers.anthropic_request import WORDS, body_of
from proxy import Bridge, Interpreter, Provider


@dataclass(frozen=True)
class Messages:
    """The dialect of the Messages API; ``max_tokens`` is sent where a chat sets no limit, because one must be."""

    max_tokens: int = 4096
    words: Collection[str] = WORDS

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The Messages body for a chat."""
        return body_of(body, self.max_tokens)

    def reply(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """The chat for a whole message."""
        choice = {"message": said(payload["content"]), "finish_reason": finish_of(payload)}
        usage = usage_of(payload["usage"])
        return {"id": payload["id"], "model": payload["model"], "choices": [choice], "usage": usage}

    def error(self, _status: int, payload: Any) -> Mapping[str, Any]:
        """The error, by whose type Anthropic says what is wrong."""
        return error_of(payload)

    def stream(self) -> Interpreter:
        """A reader of one stream."""
        return Reading()


def provider() -> Provider:
    """``provider = "anthropic"``."""
    return Provider(
        name="anthropic",
        title="Anthropic, Messages API",
        base_url="https://api.anthropic.com/v1",
        paths={"chat": "/messages"},
        credential_header="x-api-key",
        credential_prefix="",
        credential_variable="ANTHROPIC_API_KEY",
        headers={"anthropic-version": "{version}"},
        settings={"version": "2023-06-01"},
        bridge=Bridge(split_n=True, max_completion_tokens=()),
        dialect=Messages(),
        documentation=(
            "https://platform.claude.com/docs/en/api/messages",
            "https://platform.claude.com/docs/en/build-with-claude/streaming",
            "https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons",
            "https://docs.claude.com/en/api/errors",
            "https://platform.claude.com/docs/en/api/openai-sdk",
        ),
        extras=("top_k", "thinking", "output_config", "cache_control"),
        quirks=(
            "Chats are translated to its Messages API and back; completions go over the bridge as chats.",
            "What it has not is refused with 400: n, logprobs, logit_bias, seed, penalties, response_format and more.",
            "A chat without max_tokens may write 4096; temperature ends at 1; a stop is more than blanks.",
            "System and developer messages, wherever they stand, become its system text.",
            "What a model thinks is reasoning_content; it is not sent back to the model.",
            "GET /models answers in a shape of its own, and is not offered.",
        ),
    )
