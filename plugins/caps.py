"""Refuses calls that are too large: characters, messages, tokens in, tokens out, choices."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from proxy import Call, ConfigError, Deny, hookimpl

_GENERATES = ("completions", "chat")
_LIMITS = ("max_completion_tokens", "max_tokens")
#: What completions write where the caller sets no limit (OpenAI API reference, Completions).
_DEFAULT_TOKENS = 16


@dataclass(frozen=True)
class Caps:
    """Each cap is the most a call may have of something; one that is left out does not count.

    ``characters`` are those of all texts, ``messages`` those of a chat, ``prompts`` those of a completion or the
    inputs of an embedding, ``tokens`` of a prompt that is sent in tokens, ``choices`` what ``n`` and ``best_of``
    ask for. ``output_tokens`` is what a call may have written: one that sets no limit is refused where the model
    would then write without one.
    """

    characters: int | None = None
    messages: int | None = None
    prompts: int | None = None
    tokens: int | None = None
    choices: int | None = None
    output_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a cap that lets nothing through, or no cap at all."""
        caps = {each.name: getattr(self, each.name) for each in fields(self)}
        if not any(caps.values()):
            raise ConfigError("no cap is set: write e.g. characters = 100000")
        for name, cap in caps.items():
            if cap is not None and cap < 1:
                raise ConfigError(f"{name} = {cap} lets nothing through: write a number above zero")

    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        """Refuse a call that has more of something than its cap."""
        for name, found, param in self._measured(call):
            cap = getattr(self, name)
            if cap is not None and found > cap:
                what = name.replace("_", " ")
                return Deny(
                    f"This call has {found} {what}, and {cap} are allowed: send less.",
                    code="request_too_large", param=param, status=413,
                )  # fmt: skip
        if self.output_tokens is not None and call.endpoint in _GENERATES:
            return self._check_output(call.body)
        return None

    def _measured(self, call: Call) -> Iterator[tuple[str, int, str | None]]:
        body = call.body
        if self.characters is not None:
            yield (
                "characters",
                sum(len(text.value) for text in call.texts() if not text.is_key),
                None,
            )
        if call.endpoint == "chat":
            yield "messages", len(body["messages"]), "messages"
        else:
            param = "input" if call.endpoint == "embeddings" else "prompt"
            prompts = list(_prompts(body.get(param)))
            yield "prompts", len(prompts), param
            yield "tokens", sum(len(one) for one in prompts if not isinstance(one, str)), param
        choices = max(body.get("n") or 1, body.get("best_of") or 1)
        yield "choices", choices, "best_of" if body.get("best_of") == choices else "n"

    def _check_output(self, body: Mapping[str, Any]) -> Deny | None:
        param = next((name for name in _LIMITS if body.get(name) is not None), "max_tokens")
        asked = body.get(param)
        if asked is None and "prompt" in body:
            asked = _DEFAULT_TOKENS
        if asked is not None and asked <= self.output_tokens:
            return None
        return Deny(
            f"A call may have at most {self.output_tokens} tokens written: set {param} to that, or less.",
            code="request_too_large", param=param, status=413,
        )  # fmt: skip


def _prompts(prompt: Any) -> Iterator[str | list[int]]:
    """Each prompt, in any of the forms that completions and embeddings take."""
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        yield prompt
    else:
        yield from prompt or ()
