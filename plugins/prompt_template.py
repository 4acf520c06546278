"""Rewrites requests: text around prompts, a system text, defaults and caps for parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy import Call, ConfigError, hookimpl

_FIELDS = ("{principal}", "{model}")
_GENERATES = ("completions", "chat")


@dataclass(frozen=True)
class PromptTemplate:
    """Plain text only: ``{principal}`` and ``{model}`` are filled in, nothing is ever evaluated.

    ``prefix`` and ``suffix`` stand around text prompts, and ``system`` before the messages of a chat.
    ``defaults`` are set where the caller said nothing; ``caps`` are upper bounds for numbers.
    """

    prefix: str = ""
    suffix: str = ""
    system: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    caps: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """An entry that would change nothing is a mistake."""
        if not (self.prefix or self.suffix or self.system or self.defaults or self.caps):
            raise ConfigError("nothing to do: set prefix, suffix, system, defaults or caps")
        for key in {"model", "prompt", "messages", "stream"} & {*self.defaults, *self.caps}:
            raise ConfigError(f"{key!r} cannot have a default or a cap")

    @hookimpl
    def rewrite_request(self, call: Call) -> Call | None:
        """The call with its body completed; None where nothing changes."""
        if call.endpoint not in _GENERATES:
            return None
        changes = {**self._defaulted(call.body), **self._texts(call)}
        capped = dict(self._capped({**call.body, **changes}))
        return call.with_body(**changes, **capped) if changes or capped else None

    def _defaulted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in self.defaults.items() if body.get(key) is None}

    def _capped(self, body: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        for key, cap in self.caps.items():
            value = body.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > cap:
                yield key, type(value)(cap)

    def _texts(self, call: Call) -> dict[str, Any]:
        if call.endpoint == "chat":
            message = {"role": "system", "content": _filled(self.system, call)}
            return {"messages": [message, *call.body["messages"]]} if self.system else {}
        if not (self.prefix or self.suffix):
            return {}
        around = _filled(self.prefix, call), _filled(self.suffix, call)
        return {"prompt": _wrapped(call.body["prompt"], *around)}


def _wrapped(prompt: Any, before: str, after: str) -> Any:
    """Text prompts with text around them; token arrays and null have no text to put it to."""
    if isinstance(prompt, str):
        return before + prompt + after
    if isinstance(prompt, list):
        return [_wrapped(item, before, after) for item in prompt]
    return prompt


def _filled(text: str, call: Call) -> str:
    values = (call.principal.name, call.model or "")
    for name, value in zip(_FIELDS, values, strict=True):
        text = text.replace(name, value)
    return text
