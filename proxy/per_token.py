"""What a reply says of its texts token by token, and what of it stays when a text was changed."""

from collections.abc import Mapping
from typing import Any, Final

#: It cannot be kept true to a text that was changed, and would leak it.
PER_TOKEN: Final = frozenset({"logprobs", "prompt_logprobs", "prompt_token_ids", "token_ids"})


def consistent(body: Any, shown: Any, removed: set[str]) -> Any:
    """``shown``, where what was changed since ``body`` has lost what repeats it token by token.

    The names of what it has lost are added to ``removed``.
    """
    if shown is body:
        return body
    if not isinstance(body, Mapping):
        return without_tokens(shown, removed)
    before, after = body.get("choices"), shown.get("choices")
    changed = before is not after
    members: dict[str, Any] = {}
    for key, value in shown.items():
        if key == "choices" and isinstance(before, list):
            pairs = zip(before, value, strict=True)
            members[key] = [
                new if new is old else without_tokens(new, removed) for old, new in pairs
            ]
        elif value is body.get(key):
            members[key] = value
        else:
            members[key] = without_tokens(value, removed)
    gone = [key for key in PER_TOKEN & members.keys() if changed or members[key] is not body[key]]
    removed.update(key for key in gone if members[key] is not None)
    return {key: value for key, value in members.items() if key not in gone}


def without_tokens(value: Any, removed: set[str]) -> Any:
    """``value`` without what repeats its texts token by token, the names of which are added to ``removed``."""
    if isinstance(value, Mapping):
        removed.update(key for key in PER_TOKEN & value.keys() if value[key] is not None)
        return {
            key: None if key == "logprobs" else without_tokens(item, removed)
            for key, item in value.items()
            if key == "logprobs" or key not in PER_TOKEN
        }
    if isinstance(value, list | tuple):
        return [without_tokens(item, removed) for item in value]
    return value
