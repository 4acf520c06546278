"""Log-probabilities of a chat in the form that completions have them."""

import codecs
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.bridge.readers import objects


class Logprobs:
    """Translates the log-probabilities of one choice, piece by piece; offsets count characters of its text."""

    __slots__ = ("_at", "_decoder")

    def __init__(self) -> None:
        self._at = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def legacy(self, logprobs: Any) -> dict[str, Any] | None:
        """``logprobs`` of a chat's choice as ``logprobs`` of a completion's; None where there are none."""
        if isinstance(logprobs, Mapping) and {"tokens", "token_logprobs"} <= logprobs.keys():
            return dict(logprobs)  # of a route that speaks completions itself
        scored = scores(logprobs)
        if scored is None:
            return None
        return {
            "tokens": [_name(one) for one in scored],
            "token_logprobs": [one.get("logprob") for one in scored],
            "top_logprobs": [_top(one) for one in scored],
            "text_offset": [self._offset(one) for one in scored],
        }

    def _offset(self, scored: Mapping[str, Any]) -> int:
        """Where a token begins; one that is a part of a character begins where the character does."""
        at = self._at
        raw = _raw(scored)
        self._at += len(_text(scored)) if raw is None else len(self._decoder.decode(raw))
        return at


def scores(logprobs: Any) -> list[Mapping[str, Any]] | None:
    """The tokens of a chat's ``logprobs``, each with its log-probability."""
    if not isinstance(logprobs, Mapping):
        return None
    listed = [logprobs.get("content"), logprobs.get("refusal")]
    known = [one for one in listed if isinstance(one, list | tuple)]
    return [scored for one in known for scored in objects(one)] if known else None


def mean(logprobs: Any) -> float | None:
    """The mean log-probability of a choice's tokens; None where the upstream gives none."""
    scored = scores(logprobs)
    if scored is None:
        return None
    values = [value for one in scored if isinstance(value := one.get("logprob"), int | float)]
    return sum(values) / max(1, len(values))


def _top(scored: Mapping[str, Any]) -> dict[str, Any]:
    """The likeliest tokens and the one that stands there: up to ``logprobs`` + 1 entries."""
    return _named([*objects(scored.get("top_logprobs")), scored])


def _named(scored: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in scored:
        found.setdefault(_name(one), one.get("logprob"))
    return found


def _name(scored: Mapping[str, Any]) -> str:
    r"""The token; one that is no whole text by its bytes, as completions have it: ``bytes:\xe2\x9d``."""
    raw = _raw(scored)
    if raw is not None:
        try:
            raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
    return _text(scored)


def _text(scored: Mapping[str, Any]) -> str:
    token = scored.get("token")
    return token if isinstance(token, str) else ""


def _raw(scored: Mapping[str, Any]) -> bytes | None:
    try:
        return bytes(scored["bytes"])
    except (KeyError, TypeError, ValueError):
        return None
