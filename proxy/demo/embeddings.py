"""Answers `POST /v1/embeddings`: unit vectors in which texts with common words lie close."""

import base64
import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import shake_128
from typing import Any

from proxy.demo import reading
from proxy.demo.completions import Tokens
from proxy.demo.models import chosen, text_model
from proxy.demo.reading import Rule
from proxy.demo.refusals import Refused

#: The length of a vector, in numbers, and how many tokens and texts one call may hold.
DIMENSIONS = 1536
_TOKENS = 8192
_INPUTS = 2048
_RULES: Mapping[str, Rule] = {
    "dimensions": Rule(int, 1, DIMENSIONS),
    "encoding_format": Rule(str),
    "user": Rule(str, nullable=False),
}


def answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """The reply to a request body. Raises Refused (400, 403, 404) for what the API would refuse."""
    model = chosen(body, "embeddings")
    inputs = _inputs(body.get("input"))
    found = reading.checked(body, _RULES)
    form = found.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise Refused(
            f"Invalid value: '{form}'. Supported values are: float, base64.",
            param="encoding_format",
            code="invalid_value",
        )
    vectors = [vector(tokens, found.get("dimensions", DIMENSIONS)) for tokens in inputs]
    count = sum(map(len, inputs))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(values, form)}
            for index, values in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _inputs(value: object) -> list[Tokens]:
    if value is None:
        raise Refused("Missing required parameter: 'input'.", param="input")
    several = [value] if isinstance(value, str) or reading.integers(value) else value
    if not isinstance(several, list) or not 0 < len(several) <= _INPUTS:
        raise _bad_input()
    return [_tokens(one) for one in several]


def _tokens(one: object) -> Tokens:
    tokenizer = text_model().tokenizer
    if isinstance(one, str) and one:
        found = tokenizer.encode(one)
    elif isinstance(one, list) and reading.integers(one):
        found = reading.tokens(one, tokenizer.size, name="input")
    else:
        raise _bad_input()
    if len(found) > _TOKENS:
        raise Refused(
            f"This model's maximum context length is {_TOKENS} tokens, "
            f"however you requested {len(found)} tokens.",
            param="input",
        )
    return found


def _bad_input() -> Refused:
    return Refused(
        "Invalid 'input': expected a non-empty string, an array of them, tokens, "
        f"or token arrays; at most {_INPUTS} in one call.",
        param="input",
    )


@lru_cache(maxsize=4096)
def _direction(token: str) -> bytes:
    return shake_128(token.strip().lower().encode("utf-8", "surrogatepass")).digest(DIMENSIONS)


def vector(tokens: Sequence[int], dimensions: int = DIMENSIONS) -> list[float]:
    """The unit vector of a text: the sum of its tokens' directions, cut to `dimensions`."""
    sums = [0.0] * dimensions
    for number, count in Counter(tokens).items():
        direction = _direction(text_model().tokenizer.text(number))
        sums = [
            value + count * (byte - 127.5) for value, byte in zip(sums, direction, strict=False)
        ]
    length = math.hypot(*sums)
    return [value / length for value in sums]


def _written(values: Sequence[float], form: str) -> list[float] | str:
    """Single-precision numbers, in both forms the same."""
    packed = struct.pack(f"<{len(values)}f", *values)
    if form == "base64":
        return base64.b64encode(packed).decode()
    return list(struct.unpack(f"<{len(values)}f", packed))
