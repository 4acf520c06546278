"""Choices of the chunks of a stream: what they say, and how to add to it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from proxy.texts import Place

Chunk: TypeAlias = dict[str, Any]


def shape_of(choices: Any) -> str:
    """Whether choices have a ``delta`` or a ``text``, as the first one says."""
    first = choices[0] if isinstance(choices, list) and choices else None
    names = first if isinstance(first, dict) else ()
    return next((name for name in ("delta", "text") if name in names), "")


def says(choice: Mapping[str, Any]) -> bool:
    """Whether a choice holds anything that a reader would notice."""
    return any(
        _contents(value) for key, value in choice.items() if key not in ("index", "logprobs")
    )


def _contents(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_contents(item) for key, item in value.items() if key != "index")
    if isinstance(value, list):
        return any(map(_contents, value))
    return value not in (None, "")


def append(choice: Chunk, place: Place, text: str) -> None:
    """Put ``text`` behind what stands at ``place``, making the way there."""
    here: Any = choice
    for step, following in pairwise(place):
        if isinstance(here, list):
            here = _item(here, step)
        else:
            if not isinstance(here.get(step), dict | list):
                here[step] = [] if isinstance(following, int) else {}
            here = here[step]
    if isinstance(here, list):
        here.append(text)
    else:
        here[place[-1]] = (here.get(place[-1]) or "") + text


def _item(items: list[Any], index: str | int) -> Any:
    for item in items:
        if isinstance(item, dict) and item.get("index") == index:
            return item
    items.append({"index": index})
    return items[-1]
