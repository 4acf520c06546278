"""Chunks of a stream that say nothing but the next piece of one text, which is what most of them do."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from proxy.chunks import Chunk
from proxy.review import Field
from proxy.texts import Place


class Continued(Struct, frozen=True):
    """Such a chunk, looked at in full: of one that is like it only the text is new."""

    around: Chunk  # the chunk without its choices
    choice: Chunk  # its only choice without the text
    shown: Chunk  # that choice as it was shown
    number: int
    place: Place
    field: Field

    def text(self, payload: Mapping[str, Any]) -> str | None:
        """The text of a chunk that is like this one; None for any other."""
        choices = payload.get("choices")
        if type(choices) is not list or len(choices) != 1:
            return None
        said = split(choices[0], self.place)
        if said is None or said[0] != self.choice:
            return None
        around = dict(payload)
        del around["choices"]
        return said[1] if around == self.around else None

    def with_text(self, text: str) -> Chunk:
        """The choice, as it is shown, with another text."""
        name, *inner = self.place
        return {**self.shown, str(name): {inner[0]: text} if inner else text}


def split(choice: Any, place: Place) -> tuple[Chunk, str] | None:
    """A choice without the text at ``place``, and that text; None where there is another beside it."""
    if not isinstance(choice, dict):
        return None
    rest = dict(choice)
    text = rest.pop(place[0], None)
    if len(place) > 1:
        alone = isinstance(text, dict) and len(text) == 1
        text = text.get(place[1]) if alone else None
    return (rest, text) if isinstance(text, str) else None


def says_nothing(rest: Chunk) -> bool:
    """Whether a choice without its text is nothing but numbers."""
    return all(value is None or type(value) is int for value in rest.values())
