"""Finds every text of a JSON body, wherever it stands, so that a guardrail misses none."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

Place: TypeAlias = tuple[str | int, ...]

_CONTAINERS: Final = (dict, list, tuple, Mapping)


class Text(Struct, frozen=True):
    """One text of a body.

    ``place`` is the path of keys and indexes that leads to it. With ``is_key`` the text is the name
    of the member at ``place``, so ``value == place[-1]``; else it is the string that stands there.
    """

    place: Place
    value: str
    is_key: bool = False


def texts(body: Any) -> Iterator[Text]:
    """Every string and every object key of ``body``, in document order, a key before its value.

    It uses no recursion, so nesting has no limit here; numbers, booleans and null are no texts.
    """
    if isinstance(body, str):
        yield Text((), body)
    stack: list[tuple[Place, Iterator[tuple[str | int, Any]]]] = [((), _members(body))]
    while stack:
        here, members = stack[-1]
        for step, value in members:
            place = (*here, step)
            if isinstance(step, str):
                yield Text(place, step, True)
            if isinstance(value, str):
                yield Text(place, value)
            else:
                stack.append((place, _members(value)))
                break
        else:
            stack.pop()


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    """The members of an object, or the items of an array that can hold a text."""
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, list | tuple):
        # A token array has many thousand numbers: they are passed over before a place is built.
        return ((i, item) for i, item in enumerate(value) if isinstance(item, (str, *_CONTAINERS)))
    return iter(())


def place_name(place: Place) -> str:
    """``("messages", 0, "content")`` as ``messages[0].content``, as the API names a param."""
    name = ""
    for step in place:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return name


def replace(
    body: Any, changes: Mapping[Place, str], *, keys: Mapping[Place, str] | None = None
) -> Any:
    """A new body with the strings at some places changed; ``body`` itself stays as it is.

    ``keys`` renames the members at its places (places are those of ``body``, before any renaming).
    A name that is taken already gets ``#2``, ``#3``, … so that no member is lost. Only the way down
    to a change is copied, as plain dicts and lists. Raises ``KeyError`` where no string stands.
    """
    new = _Copy(body)
    for place, value in changes.items():
        new.put(place, value)
    # Deepest first: renaming a member moves the places below it.
    for place in sorted(keys or {}, key=len, reverse=True):
        new.rename(place, (keys or {})[place])
    return new.root


class _Copy:
    """A body that is copied on the way to each edit, every container once."""

    def __init__(self, body: Any) -> None:
        self.root = body
        self._own: dict[Place, Any] = {}

    def put(self, place: Place, value: str) -> None:
        if not place:
            self._must_be_text(self.root, place)
            self.root = value
            return
        parent = self._parent(place)
        self._must_be_text(self._at(parent, place), place)
        parent[place[-1]] = value

    def rename(self, place: Place, name: str) -> None:
        if not place:
            raise KeyError("the body itself has no name")
        parent = self._parent(place)
        self._at(parent, place)
        taken = parent.keys() - {place[-1]}
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}#{number}"
        members = [(free if key == place[-1] else key, value) for key, value in parent.items()]
        parent.clear()
        parent.update(members)

    def _parent(self, place: Place) -> Any:
        """The container that holds ``place``, as a copy of ours."""
        for end in range(len(place)):
            if place[:end] not in self._own:
                self._take(place[:end])
        return self._own[place[:-1]]

    def _take(self, place: Place) -> None:
        value = self._at(self._own[place[:-1]], place) if place else self.root
        if isinstance(value, Mapping):
            copy: Any = dict(value)
        elif isinstance(value, list | tuple):
            copy = list(value)
        else:
            raise KeyError(f"nothing stands below {place_name(place)!r}")
        self._own[place] = copy
        if place:
            self._own[place[:-1]][place[-1]] = copy
        else:
            self.root = copy

    @staticmethod
    def _at(parent: Any, place: Place) -> Any:
        step = place[-1]
        steps = parent if isinstance(parent, dict) else range(len(parent))
        if step not in steps:
            raise KeyError(f"the body has no {place_name(place)!r}")
        return parent[step]

    @staticmethod
    def _must_be_text(value: Any, place: Place) -> None:
        if not isinstance(value, str):
            raise KeyError(f"{place_name(place)!r} is no string")
