"""Turns one completions body into the chat bodies that stand for it, or says why that cannot be."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from msgspec import Struct

from proxy import jsonio
from proxy.bridge.settings import CONTINUE, Bridge
from proxy.errors import InvalidRequest
from proxy.model import Call

#: What completions write where the caller sets no limit (OpenAI API reference, Completions).
DEFAULT_TOKENS: Final = 16
#: Said in another way to a chat, or done here.
_OURS: Final = frozenset(
    {"best_of", "echo", "logprobs", "max_tokens", "n", "prompt", "seed", "suffix"}
)
#: What only a chat knows, and what to do instead.
_CHAT_ONLY: Final = {
    "audio": "leave it out: completions are text",
    "function_call": "call /v1/chat/completions",
    "functions": "call /v1/chat/completions",
    "max_completion_tokens": "write max_tokens",
    "messages": "write a prompt, or call /v1/chat/completions",
    "modalities": "leave it out: completions are text",
    "tool_choice": "call /v1/chat/completions",
    "tools": "call /v1/chat/completions",
    "top_logprobs": "write logprobs",
}
_PLACES: Final = re.compile(r"(\{prompt\}|\{suffix\})")
_KEY: Final = "idempotency-key"
_WRAP: Final = 2**63


class Part(Struct, frozen=True):
    """One chat: it writes ``count`` candidates, the first of which is number ``first`` of the whole call."""

    number: int
    first: int
    count: int
    body: bytes


class Plan(Struct, frozen=True, kw_only=True):
    """A completions call as chats; ``candidates`` of each prompt are written, ``n`` of them are the answer."""

    id: str
    model: str
    prompts: tuple[str, ...]
    parts: tuple[Part, ...]
    n: int
    candidates: int
    logprobs: int | None
    echo: bool
    usage: bool

    @property
    def is_ranked(self) -> bool:
        """Whether more is written than answered, and the best is chosen here."""
        return self.candidates > self.n

    @property
    def digest(self) -> str:
        """SHA-256 over the bodies of all parts, a line each."""
        return hashlib.sha256(b"\n".join(part.body for part in self.parts)).hexdigest()


def planned(call: Call, bridge: Bridge) -> Plan:
    """The chats for a completions call; raises ``InvalidRequest`` for what no chat can give."""
    body = call.body
    prompts = prompts_of(body.get("prompt"))
    n, candidates = counts_of(body)
    logprobs, echo = body.get("logprobs"), body.get("echo") is True
    _check(body, bridge)
    each = 1 if bridge.split_n else candidates
    total = len(prompts) * (candidates // each)
    if total > bridge.parts:
        refuse(
            f"This call would become {total} chats, and at most {bridge.parts} are sent for one call:"
            " send fewer prompts at once, or a smaller n or best_of.",
            "prompt", "bridge_cannot",
        )  # fmt: skip
    ranked = candidates > n
    bodies = _bodies(body, bridge, prompts, candidates, ranked=ranked)
    return Plan(
        id=f"cmpl-{call.id.removeprefix('req_')}",
        model=call.model or "",
        prompts=prompts,
        parts=tuple(
            Part(number, number * each, each, jsonio.encode(one))
            for number, one in enumerate(bodies)
        ),
        n=n,
        candidates=candidates,
        logprobs=logprobs,
        echo=echo,
        usage=(body.get("stream_options") or {}).get("include_usage") is True,
    )


def headers_of(part: Part, plan: Plan, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of one chat: what names the call's only try must not name several chats alike."""
    key = headers.get(_KEY)
    if key is None or len(plan.parts) == 1:
        return headers
    return {**headers, _KEY: f"{key}-{part.number}"}


# -- what cannot be --------------------------------------------------------------------------------


def _check(body: Mapping[str, Any], bridge: Bridge) -> None:
    for name, remedy in _CHAT_ONLY.items():
        if name in body:
            refuse(
                f"This model is reached through a chat, where {name!r} cannot be taken from a completions call:"
                f" {remedy}.",
                name, "bridge_cannot",
            )  # fmt: skip
    if body.get("max_tokens") == 0:
        what = "A chat model writes at least one token: set max_tokens to 1 or more."
        refuse(what, "max_tokens", "bridge_cannot")
    if body.get("echo") is True and body.get("logprobs") is not None:
        refuse(
            "This model is reached through a chat, which gives no log-probabilities of a prompt:"
            " leave out echo or logprobs.",
            "echo", "bridge_cannot",
        )  # fmt: skip
    if body.get("suffix") and bridge.suffix is None:
        refuse(
            "This model is reached through a chat, which has no suffix: leave it out, or ask the operator to set"
            " suffix in the upstream's bridge, a text with {prompt} and {suffix}.",
            "suffix", "bridge_needs_suffix_template",
        )  # fmt: skip


def counts_of(body: Mapping[str, Any]) -> tuple[int, int]:
    """How many choices are answered, and how many are written for them (0 asks for no more)."""
    n = 1 if body.get("n") is None else body["n"]
    best_of = body.get("best_of") or n
    if n < 1:
        refuse(
            "'n' must be at least 1: leave it out for one choice.", "n", "integer_below_min_value"
        )
    if best_of < n:
        refuse(
            f"'best_of' must be at least 'n', which is {n}: raise it, or leave it out.",
            "best_of",
            "invalid_value",
        )
    if best_of > n and body.get("stream") is True:
        rule = "Results cannot be streamed when 'best_of' is greater than 'n': leave out one of the two."
        refuse(rule, "best_of", "invalid_value")
    return n, best_of


def prompts_of(prompt: Any) -> tuple[str, ...]:
    """The prompts of a call; raises ``InvalidRequest`` for those that are no text."""
    if prompt is None or isinstance(prompt, str):
        return (prompt or "",)
    if not prompt:
        refuse("'prompt' is an empty array: send at least one prompt.", "prompt", "invalid_prompt")
    if not all(isinstance(item, str) for item in prompt):
        refuse(
            "This model is reached over the bridge, which takes no token numbers: send the prompt as text, or ask the"
            " operator to configure [[tokenizers]] for this model.",
            "prompt", "bridge_needs_tokenizer",
        )  # fmt: skip
    return tuple(prompt)


def refuse(message: str, param: str, code: str) -> NoReturn:
    """Raise the ``InvalidRequest`` that tells a caller what to do instead."""
    raise InvalidRequest(message, param=param, code=code)


# -- what is sent ----------------------------------------------------------------------------------


def _bodies(
    body: Mapping[str, Any],
    bridge: Bridge,
    prompts: Sequence[str],
    candidates: int,
    *,
    ranked: bool,
) -> Iterator[dict[str, Any]]:
    common = _common(body, bridge, ranked=ranked)
    seed, suffix = body.get("seed"), body.get("suffix")
    for prompt in prompts:
        messages = _messages(bridge, prompt, suffix or "")
        for number in range(candidates if bridge.split_n else 1):
            one = {**common, "messages": messages}
            if not bridge.split_n and candidates > 1:
                one["n"] = candidates
            if "seed" in body:
                # The same seed for each of several chats would have all of them say the same.
                one["seed"] = None if seed is None else shifted(seed, number)
            yield one


def _common(body: Mapping[str, Any], bridge: Bridge, *, ranked: bool) -> dict[str, Any]:
    """What all chats of a call have: every key of the caller's that a chat takes as it is."""
    common = {key: value for key, value in body.items() if key not in _OURS}
    limit = body.get("max_tokens")
    common[bridge.limit_name(body.get("model"))] = DEFAULT_TOKENS if limit is None else limit
    logprobs = body.get("logprobs")
    if logprobs is not None or ranked:
        common["logprobs"] = True
        if logprobs:
            common["top_logprobs"] = logprobs
    return common


def _messages(bridge: Bridge, prompt: str, suffix: str) -> list[dict[str, str]]:
    if suffix and bridge.suffix is not None:
        texts = {"{prompt}": prompt, "{suffix}": suffix}
        filled = (texts.get(piece, piece) for piece in _PLACES.split(bridge.suffix))
        return [{"role": "user", "content": "".join(filled)}]
    asked = {"role": "user", "content": prompt}
    if bridge.message == "user":
        return [asked]
    return [{"role": "system", "content": bridge.system or CONTINUE}, asked]


def shifted(seed: int, number: int) -> int:
    """``seed + number`` within 64 bits, as the parameter has them."""
    return (seed + number + _WRAP) % (2 * _WRAP) - _WRAP if number else seed
