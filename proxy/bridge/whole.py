"""Makes one completion of the whole replies of all chats."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.bridge.logprobs import Logprobs, mean
from proxy.bridge.plan import Part, Plan
from proxy.bridge.readers import ending, error_of, extras, index_of, objects, text_of
from proxy.bridge.usage import total
from proxy.errors import InvalidRequest, UpstreamError

#: Of a chat's reply: what is said anew. The rest is the server's own and stays.
RENEWED: Final = frozenset({"choices", "created", "id", "model", "object", "usage"})


def completion(plan: Plan, replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The completion that the chats say together, in the order of their parts; the first error that one of them is.

    Raises ``UpstreamError`` for a reply without the choices that were asked for, ``InvalidRequest`` where
    the best cannot be chosen.
    """
    for reply in replies:
        if (error := error_of(reply)) is not None:
            return {"error": error}
    found: list[Mapping[str, Any]] = []
    for part, reply in zip(plan.parts, replies, strict=True):
        found += _choices(part, reply)
    model = next(
        (name for reply in replies if isinstance(name := reply.get("model"), str)), plan.model
    )
    made = {
        "id": plan.id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            choice
            for number in range(len(plan.prompts))
            for choice in _answered(plan, number, found)
        ],
    }
    for reply in replies:
        for key, value in reply.items():
            if key not in RENEWED:
                made.setdefault(key, value)
    usage = total(reply.get("usage") for reply in replies)
    return made if usage is None else {**made, "usage": usage}


def _choices(part: Part, reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    by_index = {index_of(choice): choice for choice in objects(reply.get("choices"))}
    if sorted(by_index) != list(range(part.count)):
        raise missing(part, len(by_index))
    return [by_index[index] for index in range(part.count)]


def missing(part: Part, count: int) -> UpstreamError:
    """The error of a chat that did not write what was asked for."""
    remedy = "; set split_n = true in its bridge" if 0 < count < part.count else ""
    return UpstreamError(
        "protocol",
        f"{count} choices came where {part.count} were asked for{remedy}",
        bytes_received=True,
    )


def _answered(plan: Plan, number: int, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The choices for one prompt, the best ones where more were written."""
    written = found[number * plan.candidates : (number + 1) * plan.candidates]
    if plan.is_ranked:
        written = sorted(written, key=_merit, reverse=True)[: plan.n]
    return [
        _choice(plan, number * plan.n + place, choice, plan.prompts[number])
        for place, choice in enumerate(written)
    ]


def _merit(choice: Mapping[str, Any]) -> float:
    merit = mean(choice.get("logprobs"))
    if merit is None:
        raise InvalidRequest(
            "This model is reached through a chat that gives no log-probabilities, by which the best would be"
            " chosen: leave out best_of.",
            param="best_of",
            code="bridge_cannot",
        )
    return merit


def _choice(plan: Plan, index: int, choice: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    text = text_of(choice)
    return {
        "text": prompt + text if plan.echo else text,
        "index": index,
        "logprobs": None if plan.logprobs is None else Logprobs().legacy(choice.get("logprobs")),
        "finish_reason": ending(choice),
        **extras(choice),
    }
