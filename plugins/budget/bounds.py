"""What a call may cost at most, before it is sent, and what it cost when the upstream does not say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy import Call, Record

#: OpenAI API reference: what ``/v1/completions`` takes when ``max_tokens`` is left out.
_COMPLETIONS_DEFAULT = 16
#: Tries for which nobody charges: the upstream was left alone, cannot have seen the call, or answered with an error.
_LEFT_ALONE, _STATUS = "circuit_open", "status"
_FREE = frozenset(
    {"resolve", "refused_address", "connect", "tls", "timeout_connect", _LEFT_ALONE, _STATUS}
)
_REFUSED = 400  # an answer from here on is an error, for which nobody charges
#: No call has more tokens; what is counted stays far within 64 bits.
_MOST = 10**12


class Tokens(msgspec.Struct, frozen=True):
    """Tokens of one call; ``cached`` are those of the prompt that the upstream had read before."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Bounds:
    """How tokens are counted that nobody has counted; the options of the same names."""

    bytes_per_token: float
    characters_per_token: float
    template_tokens: int
    attachment_tokens: int
    most_output: int

    def most(self, call: Call, most_output: int | None) -> Tokens:
        """The most tokens a call can come to; ``most_output`` is the model's, for calls that set no limit.

        A token of text is at least one byte, so the body's bytes bound its tokens; arrays of tokens are counted.
        """
        rest, tokens, prompts = _split(call.body)
        size = len(msgspec.json.encode(rest, enc_hook=str))
        prompt = tokens + _up(size / self.bytes_per_token)
        if call.endpoint == "embeddings":
            return Tokens(min(prompt, _MOST))
        if call.endpoint == "chat":
            prompt += self.template_tokens + self.attachment_tokens * _attachments(call.body)
        answers = prompts * (_most(call.body, "n", "best_of") or 1)
        longest = self._longest(call, most_output or self.most_output)
        if call.body.get("prediction"):
            longest += size  # what was predicted wrongly is paid as output
        return Tokens(min(prompt, _MOST), min(answers * longest, _MOST))

    def _longest(self, call: Call, fallback: int) -> int:
        """The longest single answer."""
        if named := _most(call.body, "max_tokens", "max_completion_tokens"):
            return named
        by_default = call.endpoint == "completions" and "max_tokens" not in call.body
        return _COMPLETIONS_DEFAULT if by_default else fallback

    def spent(self, record: Record, most: Tokens) -> Tokens:
        """What a call came to: as the upstream counted, else estimated from the characters, else nothing."""
        usage = record.usage
        if record.answered_by is not None:
            return Tokens()
        if usage is not None and (
            usage.prompt_tokens is not None or usage.total_tokens is not None
        ):
            completion = _sane(usage.completion_tokens)
            # Embeddings and some servers give the total alone.
            total = _sane(usage.total_tokens)
            prompt = max(_sane(usage.prompt_tokens), total - completion)
            cached = _sane(usage.cached_tokens) if usage.cached_tokens else 0
            return Tokens(prompt, completion, min(prompt, cached))
        if not reached(record):
            return Tokens()
        completion = _up(record.completion_characters / self.characters_per_token)
        prompt = _up(record.bytes_sent / self.characters_per_token)
        return Tokens(min(prompt, most.prompt), min(completion, _MOST), estimated=True)


def reached(record: Record) -> bool:
    """Whether an upstream may have done the work, and charge for it though it says no usage."""
    status = record.upstream_status
    if status is not None and status < _REFUSED:
        return True
    # The caller may hang up between two tries: what is beyond those that were made is none.
    tries = [failure for failure in record.failures if failure.kind != _LEFT_ALONE]
    tries = tries[: record.attempts]
    answers = [each for each in tries if (each.upstream, each.status) == (record.upstream, status)]
    if status is not None and not answers and len(tries) == record.attempts:
        del tries[-1:]  # how the error's body broke off
    return any(failure.kind not in _FREE for failure in tries)


def failed(record: Record) -> bool:
    """Whether the upstream, and not a rule or the caller, is why there was no good answer."""
    if record.outcome in ("upstream_error", "truncated"):
        return True
    return record.outcome != "denied" and not _well(record)


def answered(record: Record) -> bool:
    """Whether somebody gave a good answer, so that there is a model of this name."""
    return record.answered_by is not None or (
        record.upstream_status is not None and _well(record) and not failed(record)
    )


def _well(record: Record) -> bool:
    return (record.upstream_status or 0) < _REFUSED


def _split(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], int, int]:
    """The body without its arrays of tokens, how many tokens these hold, and the number of prompts."""
    for key in ("prompt", "input"):
        value = body.get(key)
        if not isinstance(value, list) or not value:
            continue
        rest = {name: item for name, item in body.items() if name != key}
        if isinstance(value[0], int):
            return rest, len(value), 1
        if isinstance(value[0], list):
            return rest, sum(map(len, value)), len(value)
        return body, 0, len(value)
    return body, 0, 1


def _attachments(body: Mapping[str, Any]) -> int:
    """Content parts that are no text: images, audio, files."""
    found = 0
    for message in body.get("messages", ()):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            found += isinstance(part, dict) and part.get("type") not in ("text", "refusal")
    return found


def _most(body: Mapping[str, Any], *keys: str) -> int:
    """The largest of these counts, 0 where none is given."""
    found = 0
    for key in keys:
        value = body.get(key)
        if type(value) is int and value > found:
            found = value
    return min(found, _MOST)


def _sane(count: int | None) -> int:
    return min(max(count or 0, 0), _MOST)


def _up(number: float) -> int:
    return -int(-number // 1)
