"""Makes one stream of a completion out of the chunks of all chats, as they come."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.bridge.logprobs import Logprobs
from proxy.bridge.plan import Part, Plan
from proxy.bridge.readers import ending, extras, index_of, is_thinking, objects, text_of
from proxy.bridge.usage import total
from proxy.bridge.whole import RENEWED, missing
from proxy.errors import UpstreamError
from proxy.reading import cut

#: What a server says of the whole call in every chunk.
_OF_THE_CALL: Final = ("service_tier", "system_fingerprint")


class _Choice:
    """What is known of one choice so far."""

    __slots__ = ("ended", "logprobs")

    def __init__(self) -> None:
        self.logprobs = Logprobs()
        self.ended = False


class Chunks:
    """The chunks of one completion; every choice keeps its order, whichever chat speaks when."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._head = {
            "id": plan.id, "object": "text_completion", "created": int(time.time()), "model": "",
        }  # fmt: skip
        self._own: Mapping[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[int, Any] = dict.fromkeys(range(len(plan.parts)))

    def of(self, part: Part, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What one chunk of a chat comes to: nothing, where it says nothing that completions have."""
        if payload.get("usage") is not None:
            self._usage[part.number] = payload["usage"]
        if not self._head["model"]:
            model = payload.get("model")
            self._head["model"] = model if isinstance(model, str) else self._plan.model
        own = {key: value for key, value in payload.items() if key not in RENEWED}
        self._own = self._own or {key: own[key] for key in _OF_THE_CALL if key in own}
        return [
            self._chunk(own, choice)
            for given in objects(payload.get("choices"))
            for choice in self._choice(part, given)
        ]

    def is_alive(self, payload: Mapping[str, Any]) -> bool:
        """Whether a chunk that comes to nothing is still a sign of life."""
        return any(map(is_thinking, objects(payload.get("choices"))))

    def end(self, part: Part, *, done: bool) -> None:
        """A chat is over; raises ``UpstreamError`` unless it said so, or has ended all of its choices."""
        known = [self._choices.get(part.first + place) for place in range(part.count)]
        if done and None in known:
            raise missing(part, part.count - known.count(None))
        if not (done or all(choice is not None and choice.ended for choice in known)):
            raise cut()

    def last(self) -> list[dict[str, Any]]:
        """What comes when all chats are over: their usage, where it was asked for and all told it."""
        usage = total(self._usage.values()) if self._plan.usage else None
        return [] if usage is None else [{**self._head, **self._own, "choices": [], "usage": usage}]

    def _chunk(self, own: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
        blank = {"usage": None} if self._plan.usage else {}
        return {**self._head, **own, "choices": [choice], **blank}

    def _choice(self, part: Part, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        place = index_of(given)
        if not 0 <= place < part.count:
            raise UpstreamError(
                "protocol",
                f"a choice {place} came where {part.count} were asked for",
                bytes_received=True,
            )
        index = part.first + place
        if index not in self._choices:
            self._choices[index] = _Choice()
            if self._plan.echo and (prompt := self._plan.prompts[index // self._plan.n]):
                yield self._said(index, prompt)
        known = self._choices[index]
        text, finish = text_of(given), ending(given)
        asked = self._plan.logprobs is not None
        scores = known.logprobs.legacy(given.get("logprobs")) if asked else None
        if text or finish or (scores and scores["tokens"]):
            known.ended = known.ended or finish is not None
            yield {**self._said(index, text, scores, finish), **extras(given)}

    @staticmethod
    def _said(
        index: int, text: str, scores: dict[str, Any] | None = None, finish: Any = None
    ) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": scores, "finish_reason": finish}
