"""Rewrites requests: text around prompts, a system text, defaults and caps for parameters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy import Call, ConfigError, hookimpl

_FIELD = re.compile(r"\{(principal|model)\}")
_GENERATES = ("completions", "chat")


@dataclass(frozen=True)
class PromptTemplate:
    """Plain text only: ``{principal}`` and ``{model}`` are filled in, nothing is ever evaluated.

    ``prefix`` and ``suffix`` stand around text prompts, and ``system`` before the messages of a chat.
    ``defaults`` are set where the caller said nothing; ``caps`` are upper bounds for numbers the caller sent
    (give a default too where leaving the parameter out means "without limit").
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
        changes |= dict(self._capped({**call.body, **changes}))
        return call.replace(body={**call.body, **changes}) if changes else None

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
    """The operator's text in one pass, so that nothing is filled into what was filled in."""
    values = {"principal": call.principal.name, "model": call.model or ""}
    return _FIELD.sub(lambda found: values[found[1]], text)
