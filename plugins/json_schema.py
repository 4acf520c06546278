"""Refuses replies that are not the JSON that was agreed on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import jsonschema_rs
except ImportError:  # pragma: no cover - tested in an environment without it
    jsonschema_rs = None  # type: ignore[assignment]

from proxy import Call, ConfigError, Deny, Reply, hookimpl, only

_OK = 200
_FENCE = "```"


@dataclass(frozen=True)
class JsonSchema:
    """``path`` names a file with a JSON Schema; every choice of a reply must hold JSON that follows it.

    With ``fenced`` (the default) JSON in a Markdown fence counts as JSON. A choice that calls tools holds no text
    and is not looked at. Streams that this concerns are read to their end first.
    """

    path: str
    fenced: bool = True
    _validator: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a file that is no schema, or one that refers to another place."""
        if jsonschema_rs is None:
            raise ConfigError("json_schema needs a library: pip install 'outgate[schema]'")
        try:
            schema = json.loads(Path(self.path).read_text("utf-8"))
            # Nothing is fetched, and patterns run in linear time, whatever a model writes.
            validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            what = str(error).partition("\n")[0]
            raise ConfigError(
                f"{self.path} is no JSON Schema that can be used here: {what}"
            ) from None
        object.__setattr__(self, "_validator", validator)

    @hookimpl
    @only("completions", "chat")
    def rewrite_response(self, call: Call, reply: Reply) -> Deny | None:  # noqa: ARG002
        """Refuse a reply with a choice that does not follow the schema."""
        if reply.status != _OK:
            return None
        for number, text in _texts(reply.body):
            if (wrong := self._wrong(text)) is not None:
                return Deny(
                    f"Choice {number} of the model's reply {wrong}. Ask again, or ask for JSON in the prompt.",
                    code="reply_not_valid", status=502,
                )  # fmt: skip
        return None

    def _wrong(self, text: str) -> str | None:
        """What is wrong with a text, without repeating any of it."""
        try:
            value = json.loads(_unfenced(text) if self.fenced else text)
        except (ValueError, RecursionError):
            return "is no JSON"
        for error in self._validator.iter_errors(value):
            at = "/".join(map(str, error.schema_path)) or "its root"
            return f"does not follow the schema at {at}"
        return None


def _texts(body: Any) -> Iterator[tuple[int, str]]:
    """The text of each choice, with its number."""
    for number, choice in enumerate(body.get("choices") or ()):
        message = choice.get("message")
        text = choice.get("text") if message is None else message.get("content")
        if isinstance(text, str):
            yield number, text


def _unfenced(text: str) -> str:
    stripped = text.strip()
    if not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return stripped
    return stripped.removesuffix(_FENCE).partition("\n")[2]
