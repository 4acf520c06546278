"""Answers `POST /v1/completions`: every prompt form, whole or streamed."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from proxy.demo import reading
from proxy.demo.events import obfuscated
from proxy.demo.models import chosen, text_model
from proxy.demo.pieces import Piece, cut, interleaved, joined
from proxy.demo.reading import Rule, Streaming
from proxy.demo.refusals import Refused
from proxy.demo.textmodel import CONTEXT, Sampling, Step, dice
from proxy.demo.tokenizer import END, END_OF_TEXT

Tokens = tuple[int, ...]

RULES: Mapping[str, Rule] = dict(reading.SAMPLING) | {
    "best_of": Rule(int, 0, 20),
    "echo": Rule(bool),
    "logprobs": Rule(int, 0, 5),
    "max_tokens": Rule(int, 0),
    "suffix": Rule(str),
}
_DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A completions request, read and checked."""

    model: str
    prompts: tuple[Tokens, ...]
    n: int
    best_of: int
    echo: bool
    top: int | None
    limit: int
    stops: tuple[str, ...]
    seed: int | None
    suffix: str
    sampling: Sampling
    streaming: Streaming | None


def read(body: Mapping[str, Any]) -> Asked:
    """The request in a body. Raises Refused (400, 404) for what the API would refuse."""
    model = chosen(body, "completions")
    prompts = _prompts(body)
    found = reading.checked(body, RULES)
    n = found.get("n", 1)
    streaming = reading.streaming(found)
    limit = found.get("max_tokens", _DEFAULT_TOKENS)
    fits(prompts, limit)
    suffix = found.get("suffix", "")
    return Asked(
        model,
        prompts,
        n,
        _best_of(found, n, streaming),
        found.get("echo", False),
        found.get("logprobs"),
        limit,
        reading.stops(body),
        found.get("seed"),
        suffix,
        sampling(found, goal=_goal(suffix)),
        streaming,
    )


def sampling(found: Mapping[str, Any], goal: int | None = None) -> Sampling:
    """How to draw tokens, from checked parameters. Raises Refused (400) for a bad logit_bias."""
    return Sampling(
        temperature=float(found.get("temperature", 1)),
        top_p=float(found.get("top_p", 1)),
        presence_penalty=found.get("presence_penalty", 0),
        frequency_penalty=found.get("frequency_penalty", 0),
        logit_bias=reading.bias(found.get("logit_bias", {}), text_model().tokenizer.size),
        goal=goal,
    )


def fits(prompts: Sequence[Tokens], limit: int) -> None:
    """Raises Refused (400) when a prompt and its completion together exceed the context."""
    longest = max(map(len, prompts))
    if longest + limit > CONTEXT:
        raise Refused(
            f"This model's maximum context length is {CONTEXT} tokens, however you requested "
            f"{longest + limit} tokens ({longest} in your prompt; {limit} for the completion). "
            "Please reduce your prompt or completion length.",
            param="prompt",
            code="context_length_exceeded",
        )


def _prompts(body: Mapping[str, Any]) -> tuple[Tokens, ...]:
    """The prompts as tokens: a text, texts, tokens, or arrays of tokens; null is a new document."""
    if "prompt" not in body:
        raise Refused("You must provide a prompt", param="prompt", code="invalid_prompt")
    prompt = END_OF_TEXT if body["prompt"] is None else body["prompt"]
    several = [prompt] if isinstance(prompt, str) or reading.integers(prompt) else prompt
    if not isinstance(several, list) or not several:
        raise _bad_prompt()
    kind = str if isinstance(several[0], str) else list
    if not all(isinstance(one, kind) for one in several):
        raise _bad_prompt()
    return tuple(map(_tokens, several))


def _tokens(prompt: str | list[Any]) -> Tokens:
    tokenizer = text_model().tokenizer
    if isinstance(prompt, str):
        return tokenizer.encode(prompt)
    if not reading.integers(prompt):
        raise _bad_prompt()
    return reading.tokens(prompt, tokenizer.size, name="prompt")


def _bad_prompt() -> Refused:
    return Refused(
        "Invalid prompt: expected a string, an array of strings, an array of tokens "
        "or an array of token arrays.",
        param="prompt",
        code="invalid_prompt",
    )


def _best_of(found: Mapping[str, Any], n: int, streaming: Streaming | None) -> int:
    """How many candidates to write; 0, which the schema allows, asks for no more than n."""
    best_of: int = found.get("best_of") or n
    if best_of < n:
        raise Refused(f"best_of must be at least n ({n}), but is {best_of}.", param="best_of")
    if streaming and best_of > n:
        raise Refused("best_of above n cannot be streamed.", param="best_of")
    return best_of


def _goal(suffix: str) -> int | None:
    """The token that leads over to a suffix, if the model knows how to get there."""
    bare = suffix.lstrip()
    number = text_model().tokenizer.encode(f" {bare}" if bare[:1].isalnum() else bare)[:1]
    return number[0] if number and text_model().knows(number[0]) else None


def _candidate(asked: Asked, prompt: Tokens, which: int) -> Iterator[Piece]:
    model = text_model()
    chance = dice(prompt, asked.seed, which, asked.sampling.temperature)
    glue = " " if asked.suffix[:1].isalnum() and asked.limit else ""
    limit = asked.limit - len(glue)
    steps = model.write(prompt, limit, asked.sampling, chance, asked.top or 0)
    return cut(_glued(asked, prompt, steps, glue), asked.stops, asked.limit)


def _glued(asked: Asked, prompt: Tokens, steps: Iterator[Step], glue: str) -> Iterator[Step]:
    """The steps and, before a suffix that begins within a line, the blank it needs."""
    written = list(prompt)
    for step in steps:
        written.append(step.number)
        yield step
    model = text_model()
    yield from model.score(written or (END,), model.tokenizer.encode(glue), asked.top or 0)


def _echoed(asked: Asked, prompt: Tokens) -> Iterator[Piece]:
    if asked.echo:
        model = text_model()
        steps = () if asked.top is None else tuple(model.score((), prompt, asked.top))
        yield Piece(model.tokenizer.decode(prompt), steps)


def _written(asked: Asked, prompt: Tokens) -> list[Iterator[Piece]]:
    """The n choices for one prompt, each still to be written."""
    return [
        chain(_echoed(asked, prompt), _candidate(asked, prompt, which)) for which in range(asked.n)
    ]


def _best(asked: Asked, prompt: Tokens) -> tuple[list[Piece], int]:
    """The n best candidates by mean log-probability, and the tokens all of them have cost."""
    candidates = [joined(_candidate(asked, prompt, which)) for which in range(asked.best_of)]
    ranked = sorted(candidates, key=_mean, reverse=True) if asked.best_of > asked.n else candidates
    chosen = [joined(chain(_echoed(asked, prompt), [piece])) for piece in ranked[: asked.n]]
    return chosen, sum(piece.spent for piece in candidates)


def _mean(piece: Piece) -> float:
    return sum(step.logprob or 0.0 for step in piece.steps) / max(1, len(piece.steps))


def _logprobs(asked: Asked, steps: Sequence[Step], offset: int) -> dict[str, Any] | None:
    if asked.top is None:
        return None
    offsets = []
    for step in steps:
        offsets.append(offset)
        offset += len(step.text)
    return {
        "tokens": [step.text for step in steps],
        "token_logprobs": [step.logprob for step in steps],
        "top_logprobs": [_top(step) for step in steps],
        "text_offset": offsets,
    }


def _top(step: Step) -> dict[str, float] | None:
    """The likeliest tokens and the one that stands there: up to logprobs + 1 entries."""
    return None if step.logprob is None else dict(step.top) | {step.text: step.logprob}


def _choice(asked: Asked, index: int, piece: Piece, offset: int = 0) -> dict[str, Any]:
    return {
        "text": piece.text,
        "index": index,
        "logprobs": _logprobs(asked, piece.steps, offset),
        "finish_reason": piece.finish,
    }


def usage(prompt: int, completion: int) -> dict[str, int]:
    """The `usage` object, in tokens."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _head(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex[:24]}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": text_model().fingerprint,
    }


def whole(asked: Asked) -> dict[str, Any]:
    """The reply in one body; choices = prompts × n, and usage counts every candidate."""
    answers = [_best(asked, prompt) for prompt in asked.prompts]
    pieces = chain.from_iterable(pieces for pieces, _ in answers)
    choices = [_choice(asked, index, piece) for index, piece in enumerate(pieces)]
    spent = sum(spent for _, spent in answers)
    return _head(asked) | {
        "choices": choices,
        "usage": usage(sum(map(len, asked.prompts)), spent),
    }


def streamed(asked: Asked, delay: float) -> Iterator[dict[str, Any]]:
    """The reply in chunks, those of several choices interleaved."""
    streaming = asked.streaming or Streaming()
    head, spent = _head(asked), 0
    choices = [choice for prompt in asked.prompts for choice in _written(asked, prompt)]
    offsets = [0] * len(choices)
    chance = dice(head["id"])
    for index, piece in interleaved(choices, delay):
        chunk = head | {"choices": [_choice(asked, index, piece, offsets[index])]}
        chunk |= {"usage": None} if streaming.usage else {}
        yield obfuscated(chunk, chance) if streaming.obfuscation else chunk
        offsets[index] += len(piece.text)
        spent += piece.spent
    if streaming.usage:
        yield head | {"choices": [], "usage": usage(sum(map(len, asked.prompts)), spent)}
