"""Prompts in token numbers: turned into text where a tokenizer is configured, so that they can be scanned."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Final, Literal

from msgspec import Struct

from proxy.errors import ConfigError, InvalidRequest
from proxy.model import Call
from proxy.patterns import Globs

_FIELDS: Final = {"completions": "prompt", "embeddings": "input"}


class TokenizerEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[tokenizers]]``: the ``tokenizer.json`` of some models, and what is sent of a prompt in tokens.

    ``send = "tokens"`` sends the numbers that came, as long as nothing of their text was changed.
    """

    file: str
    models: tuple[str, ...] = ("*",)
    send: Literal["text", "tokens"] = "text"


class Tokenizers:
    """The configured tokenizers; raises ``ConfigError`` when one of them cannot be loaded."""

    def __init__(self, entries: Iterable[TokenizerEntry]) -> None:
        self._known = [(Globs(entry.models), _load(entry.file), entry.send) for entry in entries]

    def readable(self, call: Call) -> Call:
        """The call with its prompt in text, where it was in tokens and a tokenizer knows them.

        Raises ``InvalidRequest`` for a number that is no token.
        """
        field = _FIELDS.get(call.endpoint, "")
        value = call.body.get(field)
        known = self._for(call) if _is_tokens(value) else None
        if known is None:
            return call
        return call.with_body(**{field: _decoded(known[0], value, field)})

    def sendable(self, original: Call, read: Call, final: Call) -> Call:
        """The call as it is sent: with the numbers that came, where the operator wants that and may have it."""
        field = _FIELDS.get(final.endpoint, "")
        known = self._for(final)
        same = known is not None and final.body.get(field) == read.body.get(field)
        if original is read or known is None or known[1] == "text" or not same:
            return final
        return final.with_body(**{field: original.body[field]})

    def _for(self, call: Call) -> tuple[Any, str] | None:
        return next(
            ((t, send) for globs, t, send in self._known if globs.match(call.model or "")), None
        )


def _load(file: str) -> Any:
    try:
        module = import_module("tokenizers")
    except ImportError:
        raise ConfigError("[[tokenizers]] needs: pip install 'outgate[tokenizers]'") from None
    try:
        return module.Tokenizer.from_file(file)
    # The library raises plain Exception for whatever is wrong with the file.
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"[[tokenizers]] file {file!r} cannot be read: {error}") from None


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], str | Mapping)


def _decoded(tokenizer: Any, value: Any, field: str) -> Any:
    if isinstance(value[0], list):
        return [_text(tokenizer, row, field) for row in value]
    return _text(tokenizer, value, field)


def _text(tokenizer: Any, numbers: list[int], field: str) -> str:
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if not all(0 <= number < size for number in numbers):
        raise InvalidRequest(
            f"{field} holds a number that is no token of this model.",
            param=field,
            code="invalid_prompt",
        )
    return str(tokenizer.decode(list(numbers), skip_special_tokens=False))
