"""Adds a sentence to what models write, so that readers know what they read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy import Call, ConfigError, Reply, hookimpl, only

_OK = 200


@dataclass(frozen=True)
class Disclaimer:
    """``text`` stands after (or, with ``place = "before"``, before) the text of every choice.

    Choices that were cut for want of tokens, that call tools, or that are JSON because the caller asked for it
    are left as they are. Streams that this concerns are read to their end first.
    """

    text: str
    place: str = "after"
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for an empty text or a place that is none."""
        if not self.text.strip():
            raise ConfigError('text is empty: write e.g. text = "Written by a language model."')
        if self.place not in ("before", "after"):
            raise ConfigError(f'place = {self.place!r}: write "before" or "after"')

    @hookimpl
    @only("completions", "chat")
    def rewrite_response(self, call: Call, reply: Reply) -> Reply | None:
        """The reply with the sentence in every choice that ends of itself."""
        choices = reply.body.get("choices") if isinstance(reply.body, dict) else None
        if reply.status != _OK or not choices or _is_json(call.body):
            return None
        return reply.with_body(choices=[self._marked(choice) for choice in choices])

    def _marked(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        if choice.get("finish_reason") != "stop":
            return choice
        message = choice.get("message")
        if message is None and isinstance(text := choice.get("text"), str):
            return {**choice, "text": self._with(text)}
        if message is not None and isinstance(text := message.get("content"), str) and text:
            return {**choice, "message": {**message, "content": self._with(text)}}
        return choice

    def _with(self, text: str) -> str:
        if self.place == "before":
            return f"{self.text}{self.separator}{text}"
        return f"{text}{self.separator}{self.text}"


def _is_json(body: Mapping[str, Any]) -> bool:
    """Whether the caller asked for JSON, which a sentence would spoil."""
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")
